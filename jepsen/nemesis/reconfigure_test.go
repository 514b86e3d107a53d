package nemesis

import (
	"math/rand"
	"testing"

	"lockstep/jepsen/control"
)

func TestMajoritySurvives(t *testing.T) {
	five := make(roles, 6).with(5, control.Gone)
	for _, c := range []struct {
		roles roles
		down  []int
		want  bool
	}{
		{five, []int{0, 1, 5}, true},
		{five, []int{0, 1, 2}, false},
		{five.with(3, control.Learner), []int{0, 1}, false}, // of four
		{five.with(3, control.Learner), []int{0, 3}, true},
		{five.with(3, control.Learner).with(4, control.Gone), []int{0, 3, 4}, true},
		{five.with(3, control.Learner).with(4, control.Gone), []int{0, 1}, false},
	} {
		down := map[int]bool{}
		for _, place := range c.down {
			down[place] = true
		}
		if c.roles.survives(down) != c.want {
			t.Errorf("%v without %v: not %v", c.roles, c.down, c.want)
		}
	}
}

func TestChangesKeepVotersAndLeadToEveryRole(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	now, shrinking := make(roles, 6).with(5, control.Gone), true
	seen := map[[2]control.Want]bool{}
	for i := 0; i < 2000; i++ {
		place, want := drawChange(random, now, shrinking)
		if want == now[place] {
			t.Fatalf("change %d changes nothing", i)
		}
		seen[[2]control.Want{now[place], want}] = true
		now = now.with(place, want)
		voters := now.count(control.Voter)
		if voters < votersMin || roles(now[:5]).count(control.Gone) > 1 {
			t.Fatalf("change %d leads to %v", i, now)
		}
		shrinking = shrinks(now, shrinking)
	}
	if len(seen) != 5 { // all but a node that is gone and a voter at once
		t.Fatalf("only the changes %v", seen)
	}
}

func TestStrikeNeedsBothMajorities(t *testing.T) {
	c := &reconfiguring{places: make([]*control.Node, 6), now: make(roles, 6).with(5, control.Gone)}
	c.next = c.now
	if !c.strike([]int{0, 1}) || c.begin(2, control.Learner) || c.begin(0, control.Learner) || !c.begin(0, control.Gone) {
		t.Fatal("with two of five down a third vote may not go, nor may a node that is down be asked to do something")
	}
	c.end(nil)
	c.recovered()
	if !c.begin(1, control.Learner) || c.strike([]int{2, 3}) || !c.strike([]int{2}) {
		t.Fatal("of three or four voters one may be taken away, not two")
	}
}
