package control

import (
	"fmt"
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

func TestFlagsOfTheCommandLineGoBeforeDefaults(t *testing.T) {
	merged := MergeFlags([]string{"--a", "1", "--b", "2"}, []string{"--b", "3", "--c", "4"})
	if got := fmt.Sprint(merged); got != "[--a 1 --b 3 --c 4]" {
		t.Fatal(got)
	}
}
