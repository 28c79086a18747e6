//! Recurrent state: what some layers keep of all positions seen, in a fixed number of
//! floats.
//!
//! A state cannot be cut back as keys and values can. So whole states are kept, of some
//! positions, and a rewind ends at one of them:
//!
//! ```text
//! present   after the last position held; zeros at position 0, which take no memory
//! previous  before the last pass: where a rejected draft goes back to
//! marks     in prompts, where a later prompt may begin to differ; while half of the budget is free
//! next      what the pass under way writes
//! ```
//! A pass reads the present state and writes the next one: one that is cancelled
//! leaves the present state as it is. A conversation owns at most two states beside its marks: the present one, and
//! the previous or the next one.

use std::sync::Arc;

use memmap2::MmapMut;

use super::KvShape;
use super::budget::{Charge, Promise};
use crate::error::{Bounded, Error, Result};

/// Marks of one conversation at most.
const MOST_MARKS: usize = 4;

/// A pass of at least so many rows leaves a mark.
const LEAST_ROWS: usize = 32;

/// A mark lies so many positions before the end of its pass: the next prompt of a
/// conversation often differs in what stood there to begin the answer.
const BEFORE_END: usize = 16;

/// Where short passes pile up, as beside streams, a mark lies at each multiple of it.
const INTERVAL: usize = 256;

/// After how many rows of a pass of `rows` behind position `len` a mark lies, if one does.
fn mark_in(len: usize, rows: usize) -> Option<usize> {
    match rows >= LEAST_ROWS {
        true => Some(rows - BEFORE_END),
        false => Some(INTERVAL - len % INTERVAL).filter(|&at| at < rows),
    }
}

/// The states of a cache. Without recurrent layers there are none.
#[derive(Debug, Default)]
pub(super) struct States {
    /// In the order of positions; the last one is the present state.
    kept: Vec<Kept>,
    next: Option<Buffer>,
    /// A state that the pass under way writes after so many of its rows.
    mark: Option<(usize, Buffer)>,
}

/// The state after `len` positions.
#[derive(Debug, Clone)]
struct Kept {
    len: usize,
    state: Arc<Buffer>,
    mark: bool,
}

impl Kept {
    /// Whether its memory can be written again once it is not needed.
    fn is_own(&self) -> bool {
        !self.mark && Arc::strong_count(&self.state) == 1
    }
}

/// The states of all recurrent layers, one after the other.
#[derive(Debug)]
struct Buffer {
    // In this order: the memory is given back before its bytes count as free.
    map: MmapMut,
    charge: Charge,
}

/// What a recurrent layer reads and writes in a pass: its state in the form of the layer.
#[derive(Debug)]
pub(crate) struct StatePass<'a> {
    /// Before the first row; `None` stands for zeros.
    pub before: Option<&'a [f32]>,
    /// After the last row, to be written.
    pub after: &'a mut [f32],
    /// After so many of the rows, to be written.
    pub mark: Option<(usize, &'a mut [f32])>,
}

impl Buffer {
    /// Memory for all states of `shape`, paid by `promise` or, beyond that, by its budget.
    fn new(shape: &KvShape, promise: &mut Promise) -> Result<Self> {
        let bytes = shape.state_bytes();
        let charge = promise.spend(bytes)?;
        match MmapMut::map_anon(bytes) {
            Ok(map) => {
                // Without huge pages all still works.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Ok(Buffer { map, charge })
            }
            Err(_) => {
                promise.regain(charge);
                Err(Error::limit(Bounded::Memory("bytes for recurrent states"), bytes, 0))
            }
        }
    }

    /// The state of layer `layer`.
    fn of(&self, shape: &KvShape, layer: usize) -> &[f32] {
        &bytemuck::cast_slice(&self.map)[shape.state_range(layer)]
    }

    /// As [`of`](Buffer::of), to be written.
    fn of_mut(&mut self, shape: &KvShape, layer: usize) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.map)[shape.state_range(layer)]
    }
}

impl States {
    /// The positions up to `len` of which there is a state, the last one first; 0 at last.
    pub fn up_to(&self, len: usize) -> impl Iterator<Item = usize> {
        let kept = self.kept.iter().rev().map(|kept| kept.len);
        kept.filter(move |&kept| kept <= len).chain([0])
    }

    /// The present state and the marks, shared.
    pub fn fork(&self) -> States {
        let last = self.kept.len().saturating_sub(1);
        let kept = self.kept.iter().enumerate().filter(|(index, kept)| kept.mark || *index == last);
        States { kept: kept.map(|(_, kept)| kept.clone()).collect(), next: None, mark: None }
    }

    /// How many of its two states it owns alone.
    fn own(&self) -> usize {
        let kept = self.kept.iter().filter(|kept| kept.is_own()).count();
        (kept + usize::from(self.next.is_some())).min(2)
    }

    /// Bytes that it still has to take so that passes can go on for ever.
    pub fn missing(&self, shape: &KvShape) -> usize {
        (2 - self.own()).saturating_mul(shape.state_bytes())
    }

    /// Bytes that [`make`](States::make) takes for the two states.
    pub fn unmade(&self, shape: &KvShape) -> usize {
        let Some((present, before)) = self.kept.split_last() else {
            return usize::from(self.next.is_none()).saturating_mul(shape.state_bytes());
        };
        let needed = usize::from(!present.is_own()) + usize::from(self.next.is_none());
        let spare = usize::from(before.iter().any(Kept::is_own));
        needed.saturating_sub(spare).saturating_mul(shape.state_bytes())
    }

    /// Bytes of all its states, shared or not.
    pub fn bytes(&self, shape: &KvShape) -> usize {
        let mark = usize::from(self.mark.is_some());
        let count = self.kept.len() + usize::from(self.next.is_some()) + mark;
        count.saturating_mul(shape.state_bytes())
    }

    /// Makes ready for a pass of `rows` rows.
    ///
    /// # Errors
    /// [`Error::Limit`] if budget or system have not the memory.
    pub fn make(&mut self, shape: &KvShape, rows: usize, promise: &mut Promise) -> Result<()> {
        if shape.state_bytes() == 0 {
            return Ok(());
        }
        let mut spare = self.take_previous();
        if let Some(present) = self.kept.last().filter(|present| !present.is_own()) {
            // A shared state is copied: the copy can be written again, so two states of its own
            // are always enough.
            let mut own = spare.take().map_or_else(|| Buffer::new(shape, promise), Ok)?;
            own.map.copy_from_slice(&present.state.map);
            let len = present.len;
            self.kept.pop_if(|present| !present.mark);
            self.kept.push(Kept { len, state: Arc::new(own), mark: false });
        }
        if self.next.is_none() {
            self.next = match spare {
                Some(spare) => Some(spare),
                None => Some(Buffer::new(shape, promise)?),
            };
        }
        let at = mark_in(self.kept.last().map_or(0, |present| present.len), rows);
        let mark = match self.mark.take() {
            Some((_, buffer)) => Some(buffer),
            // From free budget only, never from a promise, and only while half of the budget
            // is free: others are to start, too.
            None if at.is_some() && promise.budget().is_half_free() => {
                Buffer::new(shape, &mut Promise::new(promise.budget().clone())).ok()
            }
            None => None,
        };
        self.mark = at.zip(mark);
        Ok(())
    }

    /// Forgets the state before the last pass; its memory, if nobody else has it.
    fn take_previous(&mut self) -> Option<Buffer> {
        let present = self.kept.pop()?;
        let mut spare = None;
        for Kept { state, .. } in self.kept.extract_if(.., |kept| !kept.mark) {
            spare = Arc::into_inner(state).or(spare);
        }
        self.kept.push(present);
        spare
    }

    /// What the pass under way reads and writes of layer `layer`; `None` if nothing was
    /// made ready.
    pub fn pass(&mut self, shape: &KvShape, layer: usize) -> Option<StatePass<'_>> {
        Some(StatePass {
            before: self.kept.last().map(|kept| kept.state.of(shape, layer)),
            after: self.next.as_mut()?.of_mut(shape, layer),
            mark: self.mark.as_mut().map(|(rows, buffer)| (*rows, buffer.of_mut(shape, layer))),
        })
    }

    /// What was written is the state after `rows` positions more than `len`.
    pub fn commit(&mut self, len: usize, rows: usize) {
        if let Some((after, buffer)) = self.mark.take() {
            self.kept.push(Kept { len: len + after, state: Arc::new(buffer), mark: true });
            self.thin_out();
            self.kept.sort_by_key(|kept| kept.len);
        }
        if let Some(buffer) = self.next.take() {
            self.kept.push(Kept { len: len + rows, state: Arc::new(buffer), mark: false });
        }
    }

    /// Drops the mark that is least missed, if there are too many: one close to others.
    fn thin_out(&mut self) {
        let marks: Vec<usize> =
            self.kept.iter().filter(|kept| kept.mark).map(|kept| kept.len).collect();
        if marks.len() <= MOST_MARKS {
            return;
        }
        let before = [0].iter().chain(&marks);
        let gaps = before.zip(&marks[1..]).zip(&marks).map(|((before, after), own)| {
            // How much more there is to compute without it.
            (after - before, *own)
        });
        if let Some((_, least)) = gaps.min() {
            self.kept.retain(|kept| !kept.mark || kept.len != least);
        }
    }

    /// Goes back to the state after `len` positions, one of [`up_to`](States::up_to).
    /// Returns the memory that is no longer needed.
    pub fn cut(&mut self, len: usize) -> Vec<Charge> {
        let mut freed = Vec::new();
        for Kept { state, .. } in self.kept.extract_if(.., |kept| kept.len > len) {
            if let Some(Buffer { map, charge }) = Arc::into_inner(state) {
                match self.next {
                    None => self.next = Some(Buffer { map, charge }),
                    Some(_) => {
                        drop(map);
                        freed.push(charge);
                    }
                }
            }
        }
        freed
    }

    /// Gives up what only a pass to come needs.
    pub fn end_reservation(&mut self) {
        (self.next, self.mark) = (None, None);
        self.take_previous();
    }

    /// The present state of all layers, if there is one.
    pub fn present(&self) -> Option<&[f32]> {
        self.kept.last().map(|kept| bytemuck::cast_slice(&kept.state.map))
    }

    /// A present state after `len` positions, all zero, to be written.
    ///
    /// # Errors
    /// [`Error::Limit`] if budget or system have not the memory.
    pub fn blank(&mut self, shape: &KvShape, len: usize, promise: &mut Promise) -> Result<()> {
        if shape.state_bytes() > 0 {
            let state = Arc::new(Buffer::new(shape, promise)?);
            self.kept.push(Kept { len, state, mark: false });
        }
        Ok(())
    }

    /// The present state, to be written; `None` also if it is shared.
    pub fn present_mut(&mut self) -> Option<&mut [f32]> {
        let buffer = Arc::get_mut(&mut self.kept.last_mut()?.state)?;
        Some(bytemuck::cast_slice_mut(&mut buffer.map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KvBudget, KvCache, KvLayer, KvType};
    use super::*;

    impl States {
        /// Where its states lie.
        pub fn addresses(&self) -> Vec<*const u8> {
            let buffers = self.next.iter().chain(self.mark.iter().map(|(_, buffer)| buffer));
            let buffers = buffers.map(|buffer| buffer.map.as_ptr());
            buffers.chain(self.kept.iter().map(|kept| kept.state.map.as_ptr())).collect()
        }
    }

    fn shape() -> Arc<KvShape> {
        let layer = KvLayer { kv_heads: 1, head_dim: 4, window: Some(100) };
        Arc::new(KvShape::new(vec![layer], KvType::F32, false).with_states(vec![3, 20]))
    }

    /// Lets each state be the sum of the tokens so far.
    fn feed(cache: &mut KvCache, tokens: &[f32]) {
        cache.allocate(tokens.len()).unwrap();
        for layer in 0..2 {
            let StatePass { before, after, mark } = cache.state(layer).unwrap();
            let before = before.map_or(0.0, |before| before[0]);
            if let Some((rows, mark)) = mark {
                mark.fill(before + tokens[..rows].iter().sum::<f32>());
            }
            after.fill(before + tokens.iter().sum::<f32>());
        }
        cache.commit(tokens.len());
    }

    /// The present state of layer 1.
    fn present(cache: &KvCache) -> f32 {
        cache.present_state().map_or(0.0, |state| state[16 + 19])
    }

    #[test]
    fn a_pass_leaves_the_state_before_it_and_marks() {
        let mut cache = KvCache::new(shape(), 10_000);
        feed(&mut cache, &[1.0; 100]);
        feed(&mut cache, &[1.0; 1]);
        assert_eq!((cache.reachable(101), cache.reachable(100)), (101, 100));
        assert_eq!((cache.reachable(99), cache.reachable(83)), (84, 0));
        feed(&mut cache, &[1.0; 5]);
        // The one before the pass before is gone.
        assert_eq!((cache.reachable(105), cache.reachable(100)), (101, 84));
        assert_eq!(cache.rewind_to(100), 84);
        assert_eq!((cache.len(), present(&cache)), (84, 84.0));
        for _ in 0..20 {
            feed(&mut cache, &[1.0; 50]);
        }
        assert_eq!(present(&cache), 1084.0);
        assert!(cache.states.addresses().len() <= MOST_MARKS + 2);
    }

    #[test]
    fn a_cancelled_pass_changes_nothing() {
        let mut cache = KvCache::new(shape(), 1000);
        feed(&mut cache, &[1.0; 40]);
        for rows in [1, 50, 2] {
            cache.allocate(rows).unwrap();
            cache.state(0).unwrap().after.fill(-1.0);
            cache.state(1).unwrap().after.fill(-1.0);
        }
        assert_eq!(present(&cache), 40.0);
        feed(&mut cache, &[2.0; 3]);
        assert_eq!(present(&cache), 46.0);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Feed(usize),
        Rewind(usize),
        Fork,
        Reserve,
        Clear,
    }

    fn act() -> impl Strategy<Value = (usize, Act)> {
        let act = prop_oneof![
            6 => (1usize..=120).prop_map(Act::Feed),
            4 => (1usize..=3).prop_map(Act::Feed),
            4 => (0usize..=150).prop_map(Act::Rewind),
            2 => Just(Act::Fork),
            2 => Just(Act::Reserve),
            1 => Just(Act::Clear),
        ];
        (0usize..6, act)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Whatever is forked, taken back and fed again: the state is that of the tokens
        /// held, and all memory goes back.
        #[test]
        fn the_present_state_is_that_of_the_positions_held(
            acts in proptest::collection::vec(act(), 1..80),
        ) {
            let budget = KvBudget::new(1 << 24);
            let cache = KvCache::within(shape(), 1 << 20, budget.clone());
            let mut all: Vec<(KvCache, Vec<f32>)> = vec![(cache, Vec::new())];
            for (number, (which, act)) in acts.into_iter().enumerate() {
                let which = which % all.len();
                let (cache, tokens) = &mut all[which];
                match act {
                    Act::Feed(rows) => {
                        let new: Vec<f32> = (0..rows).map(|i| ((number + i) % 7) as f32).collect();
                        feed(cache, &new);
                        tokens.extend(new);
                    }
                    Act::Rewind(back) => {
                        let to = tokens.len().saturating_sub(back);
                        let reached = cache.rewind_to(to);
                        prop_assert!(reached <= to);
                        tokens.truncate(reached);
                    }
                    Act::Fork => {
                        let fork = (cache.fork(), tokens.clone());
                        all.push(fork);
                    }
                    Act::Reserve => _ = cache.reserve(tokens.len() + 100, 50),
                    Act::Clear => {
                        cache.clear();
                        tokens.clear();
                    }
                }
                if all.len() > 6 {
                    all.remove(0);
                }
                for (cache, tokens) in &all {
                    prop_assert_eq!(cache.len(), tokens.len());
                    prop_assert_eq!(present(cache), tokens.iter().sum::<f32>());
                }
            }
            drop(all);
            prop_assert_eq!((budget.used(), budget.promised()), (0, 0));
        }
    }
}
