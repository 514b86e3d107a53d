package control

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// voters makes a cluster that has no processes, and the status of a leader that knows it.
func voters(n int) (*Cluster, *Status) {
	c := &Cluster{lastID: n}
	status := &Status{Leader: 1}
	for i := 0; i < n; i++ {
		c.Nodes = append(c.Nodes, &Node{Index: i, id: i + 1, cluster: c})
		status.Members = append(status.Members, Member{ID: i + 1, Voter: true})
	}
	return c, status
}

func expectChange(t *testing.T, c *Cluster, status *Status, want string) {
	t.Helper()
	command, err := c.nextChange(status)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(command...); got != want {
		t.Fatalf("'%s', not '%s'", got, want)
	}
}

func TestNothingToChange(t *testing.T) {
	c, status := voters(3)
	expectChange(t, c, status, "")
}

func TestSpareThatIsOutIsNotTouched(t *testing.T) {
	c, status := voters(3)
	c.Spare = &Node{Index: 3, cluster: c, out: true, want: Gone}
	expectChange(t, c, status, "")
}

func TestMemberThatShallGoIsRemoved(t *testing.T) {
	c, status := voters(3)
	c.Nodes[1].SetWant(Gone)
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "MEMBER", "REMOVE", "2"))
}

func TestLeaderHandsOverBeforeItGoes(t *testing.T) {
	c, status := voters(3)
	c.Nodes[0].SetWant(Gone)
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "TRANSFER"))
	c.Nodes[0].SetWant(Learner)
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "TRANSFER"))
}

func TestFreshNodeIsAddedThenPromoted(t *testing.T) {
	c, status := voters(3)
	c.Nodes[2].id = 9
	status.Members = status.Members[:2]
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "MEMBER", "ADD", "9", "10.77.0.3:7379"))
	status.Members = append(status.Members, Member{ID: 9})
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "MEMBER", "PROMOTE", "9"))
	c.Nodes[2].SetWant(Learner)
	expectChange(t, c, status, "")
}

func TestNodeThatDoesNotRunGetsNoMember(t *testing.T) {
	c, status := voters(3)
	c.Nodes[1].out = true
	status.Members = append(status.Members[:1], status.Members[2])
	expectChange(t, c, status, "")
}

func TestNodeThatLostItsDiskIsRemoved(t *testing.T) {
	c, status := voters(3)
	c.Nodes[1].lost = true
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "MEMBER", "REMOVE", "2"))
	c.Nodes[0].lost = true // the leader of before, still known as such
	expectChange(t, c, status, fmt.Sprint("LOCKSTEP", "TRANSFER"))
}

func TestNodeThatLostItsDiskDoesNotStart(t *testing.T) {
	c, _ := voters(3)
	c.Nodes[1].lost = true
	if err := c.Nodes[1].Start(); err != nil || c.Nodes[1].Alive() {
		t.Fatalf("it started: %v", err)
	}
	if c.seed(c.Nodes[0]) != c.Nodes[2].Address() {
		t.Fatalf("who joins is sent to %s", c.seed(c.Nodes[0]))
	}
}

// TestWhoMetANode reads the file that nodes keep (docs/FORMATS.md).
func TestWhoMetANode(t *testing.T) {
	c, _ := voters(3)
	for i, met := range []string{"node 2 0000000000000abc\nnode 3 0000000000000def\n", "", "node 12 0000000000000abc\n"} {
		c.Nodes[i].Dir = t.TempDir()
		text := "lockstep-nodes 1\ncluster 00\n" + met + "end 0\n"
		if err := os.WriteFile(filepath.Join(c.Nodes[i].Dir, "nodes"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.Nodes[1].KnownToAll() {
		t.Fatal("node 3 has met node 12, not node 2")
	}
	c.Nodes[2].out = true
	if !c.Nodes[1].KnownToAll() {
		t.Fatal("node 3 is no member, and node 1 has met node 2")
	}
}

func TestCopyComesBackAsItWas(t *testing.T) {
	node := &Node{Dir: filepath.Join(t.TempDir(), "node")}
	file := filepath.Join(node.Dir, "slots")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(node.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("old")
	if err := node.Copy(); err != nil {
		t.Fatal(err)
	}
	write("new")
	if err := node.PutCopyBack(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "old" {
		t.Fatalf("'%s', %v", data, err)
	}
}

func TestFlagsOfTheCommandLineGoBeforeDefaults(t *testing.T) {
	merged := MergeFlags([]string{"--a", "1", "--b", "2"}, []string{"--b", "3", "--c", "4"})
	if got := fmt.Sprint(merged); got != "[--a 1 --b 3 --c 4]" {
		t.Fatal(got)
	}
}
