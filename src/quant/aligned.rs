//! Numbers from the start of a cache line on, so that no vector of them lies in two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A vector that begins at a cache line when it was [resized](Aligned::resize); a clone
/// may lie elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aligned<T> {
    memory: Vec<T>,
    /// Numbers before the line.
    lead: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// Changes the length and keeps the memory where it suffices. Contents are unspecified
    /// until written.
    pub fn resize(&mut self, len: usize) {
        let most = LINE / size_of::<T>();
        self.memory.resize(len + most, T::default());
        (self.lead, self.len) = (self.memory.as_ptr().align_offset(LINE).min(most), len);
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.lead..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.lead..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_and_has_the_length() {
        let (mut bytes, mut words) = (Aligned::<i8>::default(), Aligned::<f32>::default());
        assert!(bytes.is_empty());
        for len in [1, 4097, 64, 0, 300_000, 5] {
            bytes.resize(len);
            words.resize(len);
            assert_eq!((bytes.len(), words.len()), (len, len));
            assert_eq!(bytes.as_ptr().align_offset(LINE), 0);
            assert_eq!(words.as_ptr().align_offset(LINE), 0);
            words.fill(1.0);
        }
    }
}
