package floor

import "unsafe"

const contextTop = 0xb0

func pointer(p uint64) unsafe.Pointer { return unsafe.Add(nil, p) }

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

func (q *waitq) addr() uint64 { return addr(ptr(q)) }
