//! What quantized products are made of: row panels, packed activations, and the interface
//! of a tier.

use std::any::Any;

use crate::kernel::pool::Team;
use crate::quant::{ActivationRows, Format};
use crate::simd::Isa;

/// The products of quantized weights in one tier. Called once per row panel.
pub(crate) trait QuantMatmul: Sync {
    /// Lays out `packed.rows()` as [`multiply`](QuantMatmul::multiply) reads them, for
    /// weights of `formats`. The one place that decides about the layout.
    fn pack(&self, team: &Team<'_>, packed: &mut Packed, formats: &[Format]);

    /// `out[i, m, n] = Σ_k weights[ROWS · i + n, k] · packed[m, k]` in `[panels, batch,
    /// RowPanel::ROWS]`, bit for bit those of [`dot_row`](crate::quant::dot_row).
    /// `packed` was packed by this tier, for the format among others. Weights of a format
    /// [without kernels](Format::is_rewritten) are rewritten before, by
    /// [`tiers::multiply`](super::tiers::multiply).
    fn multiply(
        &self,
        weights: &RowPanel<'_>,
        packed: &Packed,
        scratch: &mut Scratch,
        out: &mut [f32],
    );

    /// How many neighbouring panels of a format the tier likes to multiply together with
    /// this many rows of activations: they share what is read of the activations.
    fn panels_at_once(&self, _format: Format, _batch: usize) -> usize {
        1
    }
}

/// Up to [`RowPanel::ROWS`] neighbouring rows of a quantized matrix as they lie in the file.
/// Also any number of neighbouring panels, see [`RowPanel::parts`].
#[derive(Clone, Copy)]
pub(crate) struct RowPanel<'a> {
    /// A quantized format.
    pub format: Format,
    /// Weights per row: a multiple of the format's block.
    pub cols: usize,
    /// Weight rows: of one panel, 1 to [`RowPanel::ROWS`].
    pub rows: usize,
    /// The weight rows, one behind the other: `rows` · bytes of a row.
    pub bytes: &'a [u8],
    /// Where the product goes afterwards.
    pub target: Target,
}

/// Where rows of a panel's product go from its `out`: row m to `start + m · width`.
/// Kernels may fetch these places, nothing else.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 reads them"))]
pub(crate) struct Target {
    pub start: *const f32,
    pub width: usize,
}

impl<'a> RowPanel<'a> {
    /// Most rows of a panel: two AVX-512 registers of 32-bit lanes. Also the
    /// distance of output rows: `out[m · ROWS + n]` is weight row n times
    /// activation row m.
    pub const ROWS: usize = 32;

    /// Panels of at most [`RowPanel::ROWS`] rows that make up one of more.
    pub fn parts(&self) -> impl Iterator<Item = RowPanel<'a>> {
        let row = self.bytes.len() / self.rows.max(1);
        self.bytes.chunks((row * Self::ROWS).max(1)).enumerate().map(move |(i, bytes)| {
            let start = self.target.start.wrapping_add(i * Self::ROWS);
            let target = Target { start, ..self.target };
            RowPanel { rows: bytes.len() / row.max(1), bytes, target, ..*self }
        })
    }

    /// Multiplies panel by panel: `one(panel, out)` with the panel's part of `out`.
    pub fn each(&self, batch: usize, out: &mut [f32], mut one: impl FnMut(&Self, &mut [f32])) {
        let size = batch * Self::ROWS;
        for (panel, out) in self.parts().zip(out.chunks_exact_mut(size.max(1))) {
            one(&panel, out);
        }
    }

    /// Bytes of each weight row.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 uses it"))]
    pub fn weight_rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact((self.bytes.len() / self.rows.max(1)).max(1))
    }

    /// Bytes of weight row `n`.
    pub fn row(&self, n: usize) -> &'a [u8] {
        let len = self.bytes.len() / self.rows;
        &self.bytes[n * len..(n + 1) * len]
    }
}

/// Rows of activations as int8 codes, and once more in the layout of a tier.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    rows: ActivationRows,
    /// Working memory.
    rests: Vec<f32>,
    layout: TierMemory,
}

impl Packed {
    /// Quantizes `values` = `[rows, cols]` in blocks of `block_len` for weights of `formats`,
    /// whose activations have such blocks. `twice`: the rows, and behind them what rounding
    /// has taken from each.
    pub fn pack(
        &mut self,
        team: &Team<'_>,
        (isa, tier): (Isa, &dyn QuantMatmul),
        (values, cols): (&[f32], usize),
        block_len: usize,
        formats: &[Format],
        twice: bool,
    ) {
        let Packed { rows, rests, .. } = self;
        let values = (values, cols);
        match twice {
            true => super::quantize::rows_and_rests(team, isa, values, block_len, rows, rests),
            false => super::quantize::rows(team, isa, values, block_len, rows),
        }
        tier.pack(team, self, formats);
    }

    /// Packs rows that are quantized already.
    #[cfg(test)]
    pub fn of(
        team: &Team<'_>,
        tier: &dyn QuantMatmul,
        rows: ActivationRows,
        formats: &[Format],
    ) -> Self {
        let mut packed = Packed { rows, rests: Vec::new(), layout: TierMemory::default() };
        tier.pack(team, &mut packed, formats);
        packed
    }

    /// `[batch, cols]`: codes, scales and sums row by row.
    pub fn rows(&self) -> &ActivationRows {
        &self.rows
    }

    /// Rows of activations.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 asks for it"))]
    pub fn batch(&self) -> usize {
        self.rows.rows()
    }

    /// The rows, and the place of a tier's layout.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 has layouts"))]
    pub fn layout_mut<L: Layout>(&mut self) -> (&ActivationRows, &mut L) {
        (&self.rows, self.layout.of())
    }

    /// A tier's layout.
    ///
    /// # Panics
    /// If the tier did not make it, which would be our bug.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 has layouts"))]
    pub fn layout<L: Layout>(&self) -> &L {
        match self.layout.get() {
            Some(layout) => layout,
            None => unreachable!("activations were not packed as {}", std::any::type_name::<L>()),
        }
    }
}

/// What a tier keeps from call to call.
pub(crate) trait Layout: Any + Send + Sync + Default {}

impl<T: Any + Send + Sync + Default> Layout for T {}

/// A thread's working memory, kept from panel to panel: of each tier what it wants.
#[derive(Debug, Default)]
pub(crate) struct Scratch(TierMemory);

impl Scratch {
    /// The tier's memory; new memory at first.
    pub fn of<T: Layout>(&mut self) -> &mut T {
        self.0.of()
    }
}

/// Values of types that only tiers know, one of each type.
#[derive(Debug, Default)]
struct TierMemory(Vec<Box<dyn Any + Send + Sync>>);

impl TierMemory {
    fn of<T: Layout>(&mut self) -> &mut T {
        let at = match self.0.iter().position(|value| value.is::<T>()) {
            Some(at) => at,
            None => {
                self.0.push(Box::<T>::default());
                self.0.len() - 1
            }
        };
        match self.0[at].downcast_mut() {
            Some(value) => value,
            None => unreachable!("the type was just checked"),
        }
    }

    fn get<T: Layout>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }
}
