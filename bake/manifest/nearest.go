package manifest

// nearest returns the candidate that word is most likely a misspelling of, or
// "" if there is none: at most two edits away, and at most a third of the
// word's length.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", min(2, max(1, len(word)/3))+1
	for _, c := range candidates {
		if d := editDistance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbouring bytes that turn a into b (the optimal string alignment
// distance).
func editDistance(a, b string) int {
	const most = 64 // keys are short; a longer text is no misspelt key
	if len(a) > most || len(b) > most {
		return most
	}
	// Rows i-2, i-1 and i of the table whose cell [i][j] is the distance of
	// a[:i] and b[:j].
	var before, above, row [most + 1]int
	for j := range len(b) + 1 {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := above[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
