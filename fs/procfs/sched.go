package procfs

// How much time real-time threads have: sched(7).

const (
	microsecond = 1_000
	millisecond = 1_000_000
)

func showPeriod(v *view, b *out) error {
	period, _, _ := v.Kernel.RealTime()
	b.num(period / microsecond).nl()
	return nil
}

func showRuntime(v *view, b *out) error {
	_, runtime, _ := v.Kernel.RealTime()
	if runtime >= 0 {
		runtime /= microsecond
	}
	b.num(runtime).nl()
	return nil
}

func showSlice(v *view, b *out) error {
	_, _, slice := v.Kernel.RealTime()
	b.num(slice / millisecond).nl()
	return nil
}

func storePeriod(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	_, runtime, slice := v.Kernel.RealTime()
	return v.Kernel.SetRealTime(int64(n)*microsecond, runtime, slice)
}

func storeRuntime(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	period, _, slice := v.Kernel.RealTime()
	return v.Kernel.SetRealTime(period, max(int64(n)*microsecond, -1), slice)
}

// storeSlice takes Linux's default for what is not positive.
func storeSlice(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	if n <= 0 {
		n = 100
	}
	period, runtime, _ := v.Kernel.RealTime()
	return v.Kernel.SetRealTime(period, runtime, int64(n)*millisecond)
}
