//! What works on each position alone.

use crate::kernel::act::Activation;
use crate::kernel::matrix::Matrix;
use crate::kernel::route::Routing;

use super::{Norm, Vector};

/// What works on each position alone.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each layer")]
pub(crate) enum Ffn {
    Dense(Dense),
    Experts(Experts),
    Beside(Beside),
}

/// A network of all rows beside experts. Both read the residual stream, each through a norm
/// of its own (that of `dense` is the layer's), as the router does:
/// `after_dense(dense(…)) + after_experts(experts(before_experts(x)))`.
#[derive(Debug)]
pub(crate) struct Beside {
    pub dense: Dense,
    pub after_dense: Norm,
    pub before_router: Norm,
    pub before_experts: Norm,
    pub experts: Experts,
    pub after_experts: Norm,
}

/// Some of many networks for each row (Shazeer et al. 2017), and maybe one for all rows.
#[derive(Debug)]
pub(crate) struct Experts {
    /// `[experts, dim]`
    pub router: Matrix,
    /// `[experts]`: counts when experts are chosen.
    pub selection_bias: Option<Vector>,
    pub routing: Routing,
    /// `[experts]`: what an expert gives is multiplied by it.
    pub scales: Option<Vector>,
    pub experts: Vec<Dense>,
    pub shared: Option<Shared>,
}

/// The network of all rows.
#[derive(Debug)]
pub(crate) struct Shared {
    pub dense: Dense,
    /// `[dim]`: the sigmoid of its product with a row is the weight of the network.
    pub gate: Option<Vector>,
}

/// `down · (activation(gate · x) · (up · x))`; without a gate `down · activation(up · x)`
#[derive(Debug)]
pub(crate) struct Dense {
    pub activation: Activation,
    /// `[ffn_dim, dim]`
    pub gate: Option<Matrix>,
    /// `[ffn_dim, dim]`
    pub up: Matrix,
    /// `[dim, ffn_dim]`
    pub down: Matrix,
}

impl Experts {
    pub(super) fn widest_input(&self) -> usize {
        let shared = self.shared.as_ref().map(|shared| &shared.dense);
        let all = self.experts.first().into_iter().chain(shared);
        all.map(|dense| dense.down.cols()).max().unwrap_or(0)
    }

    /// Floats per row: what each of its experts reads, keeps and gives. An expert's buffers
    /// keep the memory of the most rows that they had in any layer: with 128 experts about
    /// three times those of one layer (measured with Qwen3 30B A3B's shape).
    pub(super) fn buffers(&self) -> usize {
        const OVER_LAYERS: usize = 3;
        let one = self
            .experts
            .first()
            .map_or(0, |dense| 2 * dense.up.cols() + 2 * dense.up.rows() + dense.down.rows());
        let shared = self.shared.as_ref().map_or(0, |shared| shared.dense.up.rows());
        OVER_LAYERS * self.routing.used * one + self.experts.len() + shared
    }
}
