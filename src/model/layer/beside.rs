//! A network of all rows beside experts, with norms of their own before and behind them.

use crate::kernel::matmul::Product;
use crate::model::plan::Beside;
use crate::model::state::State;

use super::{Pass, add_branch, multiply_one};

impl Beside {
    /// `x += after_dense(dense(input)) + after_experts(experts(before_experts(x)))`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let (rows, dim) = (pass.rows(), self.dense.down.rows());
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, gated, branch, beside, .. } = &mut **state;
        let width = self.dense.up.rows();
        gated.resize(rows * width, 0.0);
        multiply_one(team, *isa, input, &mut [self.dense.inner(gated)]);
        input.replace(gated, width);
        branch.resize(rows * dim, 0.0);
        multiply_one(team, *isa, input, &mut [Product::Store(&self.dense.down, branch)]);
        input.replace(gated, dim); // each keeps its own memory
        beside.clear();
        beside.resize(rows * dim, 0.0);
        add_branch(team, *isa, (Some(&self.after_dense), 1.0), (branch, beside), dim);

        pass.norm(Some(&self.before_router));
        self.experts.choose(pass);
        pass.norm(Some(&self.before_experts));
        self.experts.sum(pass);
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { branch, beside, .. } = &mut **state;
        add_branch(team, *isa, (Some(&self.after_experts), 1.0), (branch, beside), dim);
        std::mem::swap(branch, beside);
        pass.end_branch();
    }
}
