//! Postgres' own 64-bit hash functions, so that a row's checksum and its hash partition can be computed on either side.
//!
//! Bob Jenkins' lookup3 as in `src/common/hashfn.c`, little-endian. These back hash partitioning and therefore
//! never change between releases of Postgres. Pure.

/// Seed under which Postgres hashes partition keys (`HASH_PARTITION_SEED`).
const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// `hashtextextended` of a text in a deterministic collation, and `uuid_hash_extended`.
pub(super) fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len(), seed);
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        state.a = state.a.wrapping_add(word(&chunk[..4]));
        state.b = state.b.wrapping_add(word(&chunk[4..8]));
        state.c = state.c.wrapping_add(word(&chunk[8..]));
        state.mix();
    }
    let mut tail = [0; 12];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    state.a = state.a.wrapping_add(word(&tail[..4]));
    state.b = state.b.wrapping_add(word(&tail[4..8]));
    // The lowest byte of c is reserved for the length.
    state.c = state.c.wrapping_add(word(&tail[8..]) << 8);
    state.finish()
}

/// `hashint2extended` and `hashint4extended`.
pub(super) fn hash_i32(value: i32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(value.cast_unsigned());
    state.finish()
}

/// `hashint8extended` and `timestamp_hash_extended`.
pub(super) fn hash_i64(value: i64, seed: u64) -> u64 {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // So that a number hashes alike in every width that holds it.
    let folded = low ^ if value >= 0 { high } else { !high };
    hash_i32(folded.cast_signed(), seed)
}

/// Hash that decides the partition of a `bigint` key: the remainder by the modulus is the partition's.
pub(super) fn partition_hash(key: i64) -> u64 {
    // hash_combine64 of nothing with the key's hash.
    hash_i64(key, PARTITION_SEED).wrapping_add(0x49a0_f4dd_15e5_a8e3)
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: usize, seed: u64) -> Self {
        let start = 0x9e37_79b9_u32.wrapping_add(length as u32).wrapping_add(3_923_095);
        let mut state = Self { a: start, b: start, c: start };
        if seed != 0 {
            state.a = state.a.wrapping_add((seed >> 32) as u32);
            state.b = state.b.wrapping_add(seed as u32);
            state.mix();
        }
        state
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        let step = |x: &mut u32, y: &mut u32, z: &mut u32, bits| {
            *x = x.wrapping_sub(*z) ^ z.rotate_left(bits);
            *z = z.wrapping_add(*y);
        };
        step(a, b, c, 4);
        step(b, c, a, 6);
        step(c, a, b, 8);
        step(a, b, c, 16);
        step(b, c, a, 19);
        step(c, a, b, 4);
    }

    fn finish(mut self) -> u64 {
        let Self { a, b, c } = &mut self;
        let step = |x: &mut u32, y: u32, bits| *x = (*x ^ y).wrapping_sub(y.rotate_left(bits));
        step(c, *b, 14);
        step(a, *c, 11);
        step(b, *a, 25);
        step(c, *b, 16);
        step(a, *c, 4);
        step(b, *a, 14);
        step(c, *b, 24);
        u64::from(self.b) << 32 | u64::from(self.c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_postgres() {
        // SELECT hashtextextended('abc', 0) and so on, on PostgreSQL 15.
        let text = |text: &str, seed: i64| hash_bytes(text.as_bytes(), seed.cast_unsigned());
        let uuid = 0xbcaa_392e_6153_822e_8000_0000_0800_0000_u128.to_be_bytes();
        let pairs = [
            (text("", 0), -6_939_563_903_564_495_251),
            (text("abc", 0), -6_747_756_470_228_489_321),
            (text("twelve bytes", 7), 5_524_862_673_995_121_598),
            (text("a text of more than twelve bytes, Pensão", -1), -5_294_989_371_262_699_408),
            (hash_bytes(&uuid, 42), -6_603_947_791_764_117_619),
            (hash_i64(1, 0), -3_670_598_878_359_251_130),
            (hash_i64(-5_000_000_000, 99), -7_488_593_430_227_172_893),
            (hash_i32(-1, 3), -8_246_732_482_095_048_772),
        ];
        for (found, expected) in pairs {
            assert_eq!(found.cast_signed(), expected);
        }
    }

    #[test]
    fn keys_go_to_the_partition_that_postgres_chose() {
        let pairs = [(1, 8), (2, 10), (3, 9), (1_000_000, 11), (5_000_000_000, 0)];
        for (key, remainder) in pairs {
            assert_eq!(partition_hash(key) % 16, remainder, "key {key}");
        }
    }
}
