//go:build !linux

package worker

// limitProcess does nothing: only the deadline and Go's own limits hold here.
func limitProcess() {}

func memoryOf(int) int64 { return 0 }
