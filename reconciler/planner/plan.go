package planner

import "locktide.dev/schema"

func plan(in Input, g guards) schema.Plan { return schema.Plan{Commit: in.Commit} }
