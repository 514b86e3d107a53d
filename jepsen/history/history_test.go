package history

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func sample() *History {
	h := &History{}
	h.Add(Op{Process: 1, F: "write", Node: 1, Key: 3, Arg: 7, Invoke: 10, Return: 20, Outcome: OK})
	h.Add(Op{Process: 2, F: "read", Node: 2, Key: 3, Result: Nil, Invoke: 5, Return: 15, Outcome: OK})
	h.Add(Op{Process: 3, F: "txn", Node: 2, Invoke: 30, Return: 40, Outcome: Info, Error: "time \"out\"",
		Txn: []Mop{{F: "append", Key: 1, Arg: 2}, {F: "r", Key: 1, List: []int64{1, 2}, Seen: true}}})
	return h
}

func TestEDNIsInJepsensForm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.edn")
	if err := sample().WriteEDN(path, []NemesisEvent{{At: 12, F: "kill", Start: true, Detail: "n1"}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :type :invoke, :process 2, :f :read, :value [3 nil], :time 5, :node "n2"}
{:index 1, :type :invoke, :process 1, :f :write, :value [3 7], :time 10, :node "n1"}
{:index 2, :type :info, :process :nemesis, :f :kill-start, :value "n1", :time 12}
{:index 3, :type :ok, :process 2, :f :read, :value [3 nil], :time 15, :node "n2"}
{:index 4, :type :ok, :process 1, :f :write, :value [3 7], :time 20, :node "n1"}
{:index 5, :type :invoke, :process 3, :f :txn, :value [[:append 1 2] [:r 1 nil]], :time 30, :node "n2"}
{:index 6, :type :info, :process 3, :f :txn, :value [[:append 1 2] [:r 1 nil]], :time 40, :error "time \"out\"", :node "n2"}
`
	if string(data) != want {
		t.Fatalf("got\n%s\nwant\n%s", data, want)
	}
}

func TestRegisterEDNHasTransactionsOfReadsAndWrites(t *testing.T) {
	h := &History{}
	h.Add(Op{Process: 1, F: "write", Node: 1, Key: 3, Arg: 7, Invoke: 1, Return: 2, Outcome: OK})
	h.Add(Op{Process: 1, F: "swap", Node: 1, Key: 3, Arg: 8, Result: 7, Invoke: 3, Return: 4, Outcome: OK})
	h.Add(Op{Process: 1, F: "read", Node: 1, Key: 4, Result: Nil, Invoke: 5, Return: 6, Outcome: OK})
	h.Add(Op{Process: 1, F: "cas", Node: 1, Key: 3, Arg: 8, Arg2: 9, Invoke: 7, Return: 8, Outcome: OK})
	h.Add(Op{Process: 1, F: "cas", Node: 1, Key: 3, Arg: 5, Arg2: 10, Invoke: 9, Return: 10, Outcome: Info})
	var b strings.Builder
	if err := h.WriteRegisterEDN(&b); err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :type :invoke, :process 1, :f :txn, :value [[:w 3 7]], :time 1}
{:index 1, :type :ok, :process 1, :f :txn, :value [[:w 3 7]], :time 2}
{:index 2, :type :invoke, :process 1, :f :txn, :value [[:r 3 nil] [:w 3 8]], :time 3}
{:index 3, :type :ok, :process 1, :f :txn, :value [[:r 3 7] [:w 3 8]], :time 4}
{:index 4, :type :invoke, :process 1, :f :txn, :value [[:r 4 nil]], :time 5}
{:index 5, :type :ok, :process 1, :f :txn, :value [[:r 4 nil]], :time 6}
{:index 6, :type :invoke, :process 1, :f :txn, :value [[:r 3 nil] [:w 3 9]], :time 7}
{:index 7, :type :ok, :process 1, :f :txn, :value [[:r 3 8] [:w 3 9]], :time 8}
{:index 8, :type :invoke, :process 1, :f :txn, :value [[:r 3 nil] [:w 3 10]], :time 9}
{:index 9, :type :info, :process 1, :f :txn, :value [[:r 3 nil] [:w 3 10]], :time 10}
`
	if b.String() != want {
		t.Fatalf("got\n%s\nwant\n%s", b.String(), want)
	}
	h.Add(Op{F: "incr"})
	if err := h.WriteRegisterEDN(&b); err == nil {
		t.Fatal("a counter was taken for a register")
	}
}

func TestEDNHasOneOperationOfAProcessAtATime(t *testing.T) {
	h := &History{}
	h.Add(Op{Process: 5, F: "write", Node: 1, Key: 3, Arg: 7, Invoke: 2, Return: 4, Outcome: OK})
	h.Add(Op{Process: 5, F: "read", Node: 1, Key: 3, Result: 7, Invoke: 1, Return: 5, Outcome: OK})
	h.Add(Op{Process: 5, F: "read", Node: 1, Key: 3, Result: 7, Invoke: 5, Return: 6, Outcome: OK})
	if got, want := h.processes(), []int{5 + pipelineProcesses, 5, 5}; !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, not %v", got, want)
	}
}

func TestJSONComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h := sample()
	if err := h.WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	read, err := ReadJSON(path)
	if err != nil || !reflect.DeepEqual(read.Ops, h.Ops) {
		t.Fatalf("%v\n%+v\n%+v", err, read, h)
	}
	if err := os.WriteFile(path, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJSON(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("a broken file: %v", err)
	}
}
