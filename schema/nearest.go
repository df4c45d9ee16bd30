package schema

// Nearest gives the name with the smallest edit distance (Levenshtein) to s,
// if it is near enough to be a slip; "" otherwise.
func Nearest(s string, names []string) string {
	best, limit := "", 1+len(s)/3
	if len(s) > 64 {
		return ""
	}
	for _, name := range names {
		if d := distance(s, name); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal, row[j] = row[j], min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
