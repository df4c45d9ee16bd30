package gate

// What the fuzz target of answers reaches.
var (
	Serving = serving
	Result  = result
)
