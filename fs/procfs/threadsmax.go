package procfs

func showMaxThreads(v *view, b *out) error {
	b.num(int64(v.Kernel.MaxThreads())).nl()
	return nil
}

func storeMaxThreads(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	return v.Kernel.SetMaxThreads(n)
}
