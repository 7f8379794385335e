//! One 64-bit mixing function, for keys and ids. Pure.

/// Stafford's variant 13 of the MurmurHash3 finaliser, as in SplitMix64: a bijection in which every input bit
/// moves about half of the output bits.
pub(super) fn mix64(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
