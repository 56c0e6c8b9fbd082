package procfs

func showMountMax(v *view, b *out) error {
	b.num(int64(v.Namespace.MountMax())).nl()
	return nil
}

func storeMountMax(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	return v.Namespace.SetMountMax(n)
}
