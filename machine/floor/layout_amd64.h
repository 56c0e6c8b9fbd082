// Offsets that assembly shares with Go; layout_test.go holds them together.

// context (machine.Context and what follows it; one page)
#define C_R15 0x00
#define C_R14 0x08
#define C_R13 0x10
#define C_R12 0x18
#define C_R11 0x20
#define C_R10 0x28
#define C_R9 0x30
#define C_R8 0x38
#define C_RBP 0x40
#define C_RDI 0x48
#define C_RSI 0x50
#define C_RDX 0x58
#define C_RCX 0x60
#define C_RBX 0x68
#define C_RAX 0x70
#define C_VEC 0x78
#define C_ERR 0x80
#define C_RIP 0x88
#define C_CS 0x90
#define C_RFL 0x98
#define C_RSP 0xa0
#define C_SS 0xa8
#define C_TOP 0xb0
#define C_FS 0xb0
#define C_GS 0xb8
#define C_CR2 0xc0
#define C_ORIG 0xc8
#define C_FLAG 0xd0
#define C_KSP 0xd8
#define C_KBP 0xe0
#define C_CPU 0xe8
#define C_SPACE 0xf0
#define C_DEBUG 0xf8
#define C_FX 0x100
#define C_DR 0xc00
#define C_WANT 0xc28
#define C_REAL 0xc30
#define C_SINCE 0xc38
#define C_USED 0xc40

// cpu (GS base)
#define P_SELF 0x00
#define P_USERTOP 0x08
#define P_SCRATCH 0x10
#define P_FLOORSP 0x18
#define P_G 0x20
#define P_FLOORFS 0x28
#define P_INFLOOR 0x30
#define P_THRTOP 0x38
#define P_THRFS 0x40
#define P_ROOT 0x48
#define P_SPACE 0x50
#define P_BIT 0x58
#define P_NUMBER 0x60
#define P_TSS 0x68
#define P_IST 0x8c	// in the TSS: IST 1
#define P_DEBUG 0xd8
#define P_GIVEN 0xe0
#define P_CLAIMED 0xe8
#define P_TAGS 0xf0

// space
#define S_ROOT 0x00
#define S_CPUS 0x08
#define S_PCID 0x18
#define S_TAG 0x20

// selectors, as Linux has them
#define SEL_KCODE $0x10
#define SEL_KDATA $0x18
#define SEL_UDATA $0x2b
#define SEL_UCODE $0x33

#define VEC_SYSCALL $0x100

// RFLAGS bits that a program may have; and those that it always has.
#define USER_FLAGS $0x254dd5
#define USER_FIXED $0x202

#define PUSHREGS \
	PUSHQ AX; PUSHQ BX; PUSHQ CX; PUSHQ DX; PUSHQ SI; PUSHQ DI; PUSHQ BP; \
	PUSHQ R8; PUSHQ R9; PUSHQ R10; PUSHQ R11; PUSHQ R12; PUSHQ R13; PUSHQ R14; PUSHQ R15

#define POPREGS \
	POPQ R15; POPQ R14; POPQ R13; POPQ R12; POPQ R11; POPQ R10; POPQ R9; POPQ R8; \
	POPQ BP; POPQ DI; POPQ SI; POPQ DX; POPQ CX; POPQ BX; POPQ AX

// SAVEFLOAT(ctx) stores the vector state of the context in ctx, LOADFLOAT
// loads it; AX, CX, DX are lost. floatMode: 0 FXSAVE, 1 XSAVE, 2 XSAVEOPT.
#define SAVEFLOAT(ctx) \
	MOVL ·floatMask(SB), AX; XORL DX, DX; MOVL ·floatMode(SB), CX; \
	CMPL CX, $1; JHI 4(PC); JEQ 5(PC); \
	FXSAVE64 C_FX(ctx); JMP 4(PC); \
	XSAVEOPT64 C_FX(ctx); JMP 2(PC); \
	XSAVE64 C_FX(ctx)

#define LOADFLOAT(ctx) \
	MOVL ·floatMask(SB), AX; XORL DX, DX; \
	CMPL ·floatMode(SB), $0; JNE 3(PC); \
	FXRSTOR64 C_FX(ctx); JMP 2(PC); \
	XRSTOR64 C_FX(ctx)

// SETFS makes AX the FS base; CX and DX are lost.
#define SETFS \
	CMPB ·hasBase(SB), $0; JEQ 3(PC); \
	WRFSBASEQ AX; JMP 5(PC); \
	MOVQ AX, DX; SHRQ $32, DX; MOVL $0xC0000100, CX; WRMSR
