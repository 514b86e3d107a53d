package check

import "strings"

// Unseen gives the names of a comma-separated list of faults none of which had an effect: such a run proves nothing.
func Unseen(nemesis string, effective map[string]bool) []string {
	var unseen []string
	for _, name := range strings.Split(nemesis, ",") {
		if name != "" && name != "none" && !effective[name] {
			unseen = append(unseen, name)
		}
	}
	return unseen
}
