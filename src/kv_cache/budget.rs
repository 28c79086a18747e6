//! One budget of bytes for the blocks of many caches.
//!
//! ```text
//! used      blocks alive: shared by forks or not, each counts once
//! promised  set aside for one cache, not made yet
//! used + promised ≤ limit, always
//! ```
//! A block counts from before its memory is mapped until after it is given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Bounded, Error, Result};

/// Memory for keys and values, shared by the caches of an engine.
#[derive(Debug)]
pub(crate) struct KvBudget {
    /// Bytes; `usize::MAX` = no limit.
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    used: usize,
    promised: usize,
}

impl KvBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(KvBudget { limit, taken: Mutex::default() })
    }

    /// A budget that never says no.
    pub fn unlimited() -> Arc<Self> {
        KvBudget::new(usize::MAX)
    }

    /// Bytes that may be taken in all; `usize::MAX` = no limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of the blocks alive.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.taken().used
    }

    /// Bytes set aside for caches with a reservation.
    #[cfg(test)]
    pub fn promised(&self) -> usize {
        self.taken().promised
    }

    /// Whether at least half of it is neither used nor promised.
    pub fn is_half_free(&self) -> bool {
        self.taken().free(self.limit) >= self.limit / 2
    }

    /// Bytes of the blocks alive, and bytes set aside, at one moment.
    pub fn used_and_promised(&self) -> (usize, usize) {
        let Taken { used, promised } = *self.taken();
        (used, promised)
    }

    /// Bytes neither used nor promised.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.taken().free(self.limit)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change is whole before the lock opens: a panic leaves no half of one.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn free(self, limit: usize) -> usize {
        limit - self.used - self.promised
    }
}

/// Bytes of a budget set aside for one cache; they go back with it.
#[derive(Debug)]
pub(crate) struct Promise {
    budget: Arc<KvBudget>,
    bytes: usize,
}

impl Promise {
    /// A promise of nothing.
    pub fn new(budget: Arc<KvBudget>) -> Self {
        Promise { budget, bytes: 0 }
    }

    /// The budget.
    pub fn budget(&self) -> &Arc<KvBudget> {
        &self.budget
    }

    /// Bytes set aside.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it `bytes`, more or less than before. `Err`, and nothing changed, if
    /// that many are not to be had: how many are.
    pub fn set(&mut self, bytes: usize) -> Result<(), usize> {
        let mut taken = self.budget.taken();
        let most = taken.free(self.budget.limit) + self.bytes;
        if bytes > most {
            return Err(most);
        }
        taken.promised = taken.promised - self.bytes + bytes;
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back what exceeds `bytes`.
    pub fn lower(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.budget.taken().promised -= self.bytes - bytes;
            self.bytes = bytes;
        }
    }

    /// Takes `bytes` for use: from the promise, or what is free if that is short.
    pub fn spend(&mut self, bytes: usize) -> Result<Charge> {
        if self.bytes < bytes {
            self.set(bytes).map_err(|free| over_budget(bytes, free))?;
        }
        let mut taken = self.budget.taken();
        taken.promised -= bytes;
        taken.used += bytes;
        self.bytes -= bytes;
        Ok(Charge { budget: self.budget.clone(), bytes })
    }

    /// Takes back what was spent.
    pub fn regain(&mut self, mut charge: Charge) {
        debug_assert!(Arc::ptr_eq(&self.budget, &charge.budget), "of another budget");
        let bytes = std::mem::take(&mut charge.bytes);
        let mut taken = self.budget.taken();
        taken.used -= bytes;
        taken.promised += bytes;
        self.bytes += bytes;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.lower(0);
    }
}

/// Bytes in use, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<KvBudget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.taken().used -= self.bytes;
    }
}

/// The error for blocks that neither a promise nor what is free pays for.
pub(crate) fn over_budget(needed: usize, free: usize) -> Error {
    Error::limit(Bounded::KvMemory, needed, free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_become_charges_and_go_back() {
        let budget = KvBudget::new(100);
        let mut a = Promise::new(budget.clone());
        let mut b = Promise::new(budget.clone());
        a.set(60).unwrap();
        assert_eq!(b.set(41), Err(40));
        b.set(40).unwrap();
        assert_eq!((budget.used(), budget.promised(), budget.free()), (0, 100, 0));
        let first = a.spend(50).unwrap();
        assert!(matches!(a.spend(11), Err(Error::Limit { needed: 11, allowed: 10, .. })));
        assert_eq!((budget.used(), budget.promised(), a.bytes()), (50, 50, 10));
        drop(b);
        let second = a.spend(45).unwrap(); // 10 promised, 35 free
        assert_eq!((budget.used(), budget.promised(), budget.free()), (95, 0, 5));
        a.regain(second);
        assert_eq!((budget.used(), a.bytes()), (50, 45));
        drop(a);
        assert_eq!(budget.free(), 50);
        drop(first);
        assert_eq!((budget.used(), budget.promised()), (0, 0));
    }

    #[test]
    fn nothing_overflows_without_a_limit() {
        let mut a = Promise::new(KvBudget::unlimited());
        a.set(usize::MAX).unwrap();
        let mut b = Promise::new(a.budget().clone());
        assert_eq!(b.set(1), Err(0));
        a.lower(7);
        b.set(usize::MAX - 7).unwrap();
    }
}
