//! Varints and a reader that never reads beyond its bytes. Nothing here knows what they mean.

/// Most bytes of a varint of 64 bits.
pub(super) const VARINT_MAX: usize = 10;

/// Appends `value`, seven bits a byte, least significant first, the high bit meaning "more".
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// Small magnitudes of either sign become small numbers: 0, -1, 1, -2, …
pub(crate) const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads forward through bytes that may be anything; `None` means that they end too early.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for position in 0..VARINT_MAX {
            let byte = self.byte()?;
            // The tenth byte holds the 64th bit alone; more would be another number's encoding.
            if position == VARINT_MAX - 1 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_varint(&mut out, zigzag(signed));
            let mut bytes = Bytes(&out);
            prop_assert_eq!(bytes.varint(), Some(value));
            prop_assert_eq!(bytes.signed(), Some(signed));
            prop_assert!(bytes.0.is_empty());
        }
    }

    #[test]
    fn endless_and_cut_varints_are_refused() {
        assert_eq!(Bytes(&[0xff; 16]).varint(), None);
        assert_eq!(Bytes(&[0x80]).varint(), None);
        assert_eq!(Bytes(&[]).varint(), None);
    }
}
