//! Experts: each row goes to some of many feed-forward networks, whose results are added
//! with weights.
//!
//! ```text
//! router → choices of each row → rows grouped by expert → gate and up of all experts in
//! one phase → down of all experts in one phase → weighted sums, row by row
//! ```
//! Only the matrices of experts that have rows are read, and each once per pass. A row's
//! result does not depend on the others: sums go by the row's own order of experts.

use crate::kernel::math::{add_scaled, dot, exp};
use crate::kernel::matmul::{Group, Input, Product, multiply};
use crate::kernel::pool::Team;
use crate::kernel::route::{Choice, Route};
use crate::model::plan::{Experts, Shared};
use crate::model::state::{ExpertBuffers, State, Turn};
use crate::simd::{Isa, Simd, Task};

use super::{Pass, multiply_one};

impl Experts {
    /// `x += Σ weight · expert(input) + shared(input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        self.choose(pass);
        self.sum(pass);
        pass.end_branch();
    }

    /// `branch ← Σ weight · expert(input) + shared(input)`, by the choices that were made.
    pub(super) fn sum(&self, pass: &mut Pass<'_, '_>) {
        self.gather(pass);
        self.multiply(pass);
        if let Some(shared) = &self.shared {
            shared.run(pass);
        }
        self.add_up(pass);
    }

    /// `choices` of all rows.
    pub(super) fn choose(&self, pass: &mut Pass<'_, '_>) {
        let (rows, count, used) = (pass.rows(), self.experts.len(), self.routing.used);
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, experts, .. } = &mut **state;
        let ExpertBuffers { logits, choices, .. } = experts;
        logits.resize(rows * count, 0.0);
        choices.resize(rows * used, Choice { expert: 0, weight: 0.0 });
        multiply_one(team, *isa, input, &mut [Product::Store(&self.router, logits)]);
        let mut of_rows: Vec<_> =
            logits.chunks_exact_mut(count).zip(choices.chunks_exact_mut(used)).collect();
        team.for_each(&mut of_rows, |_, (logits, choices)| {
            let bias = self.selection_bias.as_deref();
            isa.run(Route { routing: &self.routing, logits, bias, choices });
            if let Some(scales) = &self.scales {
                choices.iter_mut().for_each(|choice| choice.weight *= scales[choice.expert]);
            }
        });
    }

    /// The turn of each expert that has rows, with the rows that it reads.
    fn gather(&self, pass: &mut Pass<'_, '_>) {
        let State { input, experts, .. } = &mut *pass.state;
        let ExpertBuffers { choices, turns, .. } = experts;
        let mut rows_of = vec![Vec::new(); self.experts.len()];
        for (row, choices) in choices.chunks_exact(self.routing.used).enumerate() {
            choices.iter().for_each(|choice| rows_of[choice.expert].push(row));
        }
        let mut used = 0;
        for (expert, rows) in rows_of.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            if used == turns.len() {
                turns.push(Turn::default());
            }
            let turn = &mut turns[used];
            used += 1;
            let dense = &self.experts[expert];
            let (dim, width) = (dense.up.cols(), dense.up.rows());
            turn.input.reset(rows.len(), dim);
            turn.input.twice = input.twice;
            for (to, &row) in turn.input.values.chunks_exact_mut(dim).zip(&rows) {
                to.copy_from_slice(&input.values[row * dim..][..dim]);
            }
            turn.gated.resize(rows.len() * width, 0.0);
            turn.out.resize(rows.len() * dense.down.rows(), 0.0);
            (turn.expert, turn.rows) = (expert, rows);
        }
        turns.truncate(used);
    }

    /// `out` of every turn.
    fn multiply(&self, pass: &mut Pass<'_, '_>) {
        let Pass { team, isa, state, .. } = &mut *pass;
        let turns = &mut state.experts.turns;
        multiply_all(
            team,
            *isa,
            turns.iter_mut().map(|turn| {
                let Turn { expert, input, gated, .. } = turn;
                (input, [self.experts[*expert].inner(gated)])
            }),
        );
        for Turn { expert, input, gated, .. } in &mut *turns {
            input.replace(gated, self.experts[*expert].down.cols());
        }
        multiply_all(
            team,
            *isa,
            turns.iter_mut().map(|turn| {
                let Turn { expert, input, out, .. } = turn;
                (input, [Product::Store(&self.experts[*expert].down, out)])
            }),
        );
        for Turn { expert, input, gated, .. } in turns {
            // Each keeps its own memory.
            input.replace(gated, self.experts[*expert].up.cols());
        }
    }

    /// `branch ← Σ weight · out`, or `branch += …` where a shared network wrote it.
    fn add_up(&self, pass: &mut Pass<'_, '_>) {
        let (rows, used) = (pass.rows(), self.routing.used);
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { branch, experts, .. } = &mut **state;
        let ExpertBuffers { choices, turns, .. } = experts;
        let dim = self.router.cols();
        if self.shared.is_none() {
            branch.clear();
            branch.resize(rows * dim, 0.0);
        }
        let mut turn_of = vec![usize::MAX; self.experts.len()];
        turns.iter().enumerate().for_each(|(at, turn)| turn_of[turn.expert] = at);
        let mut of_rows: Vec<_> = branch.chunks_exact_mut(dim).collect();
        team.for_each(&mut of_rows, |row, sum| {
            for choice in &choices[row * used..(row + 1) * used] {
                let turn = &turns[turn_of[choice.expert]];
                if let Ok(at) = turn.rows.binary_search(&row) {
                    let out = &turn.out[at * dim..][..dim];
                    isa.run(AddScaled { weight: choice.weight, out, sum });
                }
            }
        });
    }
}

/// Computes one product of each input, in one phase.
fn multiply_all<'a>(
    team: &Team<'_>,
    isa: Isa,
    products: impl Iterator<Item = (&'a mut Input, [Product<'a>; 1])>,
) {
    let mut products: Vec<_> = products.collect();
    let groups = products.iter_mut().map(|(input, products)| Group { input, products });
    multiply(team, isa, &mut groups.collect::<Vec<_>>());
}

impl Shared {
    /// `branch ← weight · shared(input)`
    fn run(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, gated, branch, .. } = &mut **state;
        let (dim, width) = (self.dense.up.cols(), self.dense.up.rows());
        gated.resize(rows * width, 0.0);
        branch.resize(rows * dim, 0.0);
        multiply_one(team, *isa, input, &mut [self.dense.inner(gated)]);
        let mut weights = vec![1.0; rows];
        if let Some(gate) = &self.gate {
            let mut of_rows: Vec<_> =
                weights.iter_mut().zip(input.values.chunks_exact(dim)).collect();
            team.for_each(&mut of_rows, |_, (weight, x)| {
                **weight = isa.run(GateOfRow { gate, x });
            });
        }
        input.replace(gated, width);
        multiply_one(team, *isa, input, &mut [Product::Store(&self.dense.down, branch)]);
        input.replace(gated, dim);
        for (row, weight) in branch.chunks_exact_mut(dim).zip(weights) {
            row.iter_mut().for_each(|x| *x *= weight);
        }
    }
}

/// `sum += weight · out`
struct AddScaled<'a> {
    weight: f32,
    out: &'a [f32],
    sum: &'a mut [f32],
}

impl Task for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        add_scaled(simd, self.weight, self.out, self.sum);
    }
}

/// `sigmoid(gate · x)`
struct GateOfRow<'a> {
    gate: &'a [f32],
    x: &'a [f32],
}

impl Task for GateOfRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut lanes = [0.0; 16];
        let minus = simd.splat(-dot(simd, self.gate, self.x));
        simd.store(exp(simd, minus), &mut lanes);
        1.0 / (1.0 + lanes[0])
    }
}
