package nemesis

import (
	"reflect"
	"testing"
	"time"
)

func plan(t *testing.T, names string, seed int64) []Planned {
	t.Helper()
	selected, err := Select(names)
	if err != nil {
		t.Fatal(err)
	}
	return Plan(seed, selected, 20*time.Second)
}

func TestPlanIsDrawnFromTheSeedAlone(t *testing.T) {
	if !reflect.DeepEqual(plan(t, "partition,kill", 7), plan(t, "partition,kill", 7)) {
		t.Fatal("one seed, two plans")
	}
	if reflect.DeepEqual(plan(t, "partition,kill", 7), plan(t, "partition,kill", 8)) {
		t.Fatal("two seeds, one plan")
	}
}

func TestPlanHoldsEachNemesisAndEndsInTime(t *testing.T) {
	for seed := int64(1); seed < 50; seed++ {
		seen := map[string]bool{}
		for _, p := range plan(t, "partition-one,rolling,kill", seed) {
			seen[p.Fault.Name] = true
			if p.At < 0 || p.At+p.For > 20*time.Second {
				t.Fatalf("seed %d: %s from %v for %v", seed, p.Fault.Name, p.At, p.For)
			}
		}
		if len(seen) != 3 {
			t.Fatalf("seed %d: only %v", seed, seen)
		}
	}
}

func TestSelectRefusesUnknownFaults(t *testing.T) {
	if _, err := Select("meteor"); err == nil {
		t.Fatal("'meteor' was accepted")
	}
	if selected, err := Select("none"); err != nil || len(selected) != 0 {
		t.Fatalf("none: %v %v", selected, err)
	}
}
