//! A number → the same number, with what the verifier is to know about it.

/// Limits `$value` to `0..=$max` with the very comparison the verifier sees.
///
/// VERIFIER: LLVM likes to compare a copy of a length and to use the original; then its bounds are not known.
macro_rules! bound {
    ($value:expr, $max:expr) => {{
        let mut value: u64 = $value;
        #[cfg(target_arch = "bpf")]
        // SAFETY: two instructions on one register.
        unsafe {
            core::arch::asm!(
                "if {value} <= {max} goto +1",
                "{value} = {max}",
                value = inout(reg) value,
                max = const $max,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        if value > $max {
            value = $max;
        }
        value
    }};
}

/// `$value`, about which the verifier now knows nothing; neither does it know `$unknown`.
///
/// VERIFIER: a loop is accepted as soon as a step ends in a state that it has seen before. A value that counts down
/// from a known limit, or whose bounds move with every step, is a new state every time.
macro_rules! forget {
    ($value:expr, $unknown:expr) => {{
        let mut value: u64 = $value;
        let unknown: u64 = $unknown;
        #[cfg(target_arch = "bpf")]
        // SAFETY: two instructions on one register.
        unsafe {
            core::arch::asm!(
                "{value} ^= {unknown}",
                "{value} ^= {unknown}",
                value = inout(reg) value,
                unknown = in(reg) unknown,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            value ^= unknown;
            value ^= unknown;
        }
        value
    }};
}

pub(super) use bound;
pub(crate) use forget;
