//! What is done to the heads of queries, keys and values before attention: norm, rotary
//! embedding and scale, in one step.

use crate::kernel::norm::rms_norm;
use crate::kernel::rope::RotaryTable;
use crate::simd::Simd;

/// RMS norm of each head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadNorm<'a> {
    /// `[head_dim]`, the same for all heads.
    pub weight: &'a [f32],
    pub epsilon: f32,
}

/// What the heads of a layer's queries or keys go through: norm, rotation, scale.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepare<'a> {
    pub norm: Option<HeadNorm<'a>>,
    /// Whether the norm comes after the rotation.
    pub norm_last: bool,
    /// None: the layer does not know positions.
    pub rotary: Option<&'a RotaryTable>,
    /// Whether the table's factors of queries apply.
    pub query: bool,
}

impl Prepare<'_> {
    /// Prepares one head of row `row` of the batch in place.
    #[inline(always)]
    pub fn head<S: Simd>(&self, simd: S, row: usize, head: &mut [f32]) {
        if !self.norm_last {
            self.normalize(simd, head);
        }
        if let Some(table) = self.rotary {
            table.rotate(simd, row, head);
        }
        if self.norm_last {
            self.normalize(simd, head);
        }
        let Some(table) = self.rotary else { return };
        if self.query
            && let Some(scale) = table.query_scale(row)
        {
            for x in head {
                *x *= scale;
            }
        }
    }

    #[inline(always)]
    fn normalize<S: Simd>(&self, simd: S, head: &mut [f32]) {
        if let Some(HeadNorm { weight, epsilon }) = self.norm {
            rms_norm(simd, head, weight, epsilon);
        }
    }
}
