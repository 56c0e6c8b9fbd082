package stack

// fragments counts what fragments that wait for the rest of their packets take, in all stacks together; nil: nobody counts.
var fragments func(bytes int64) (over bool)

// SetFragments sets who counts that: charge adds bytes, below 0 too, and reports whether there are too many now. It is called before packets come in.
func (*Stack) SetFragments(charge func(bytes int64) (over bool)) { fragments = charge }

// ChargeFragments adds bytes to what fragments take. While it reports true the oldest are to be given up.
func ChargeFragments(bytes int) (over bool) { return fragments != nil && fragments(int64(bytes)) }
