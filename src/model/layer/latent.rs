//! Latent attention: queries, and one key and value for all heads, from low ranks.
//!
//! ```text
//! kv_down, q → keys and values to the caches → k_up of all heads in one phase → what each
//! row sees → v_up of all heads in one phase → output
//! ```
//! The cache holds values as wide as keys, n_rot zeros in front of the latent: n_rot / rank
//! (an eighth in released models) more memory and work for values than they need, and nothing
//! else in the cache and in attention knows of it.

use crate::kernel::attention::{self as kernel, Prepare};
use crate::kernel::matmul::{Group, Product, multiply};
use crate::kernel::matrix::Matrix;
use crate::kernel::norm::rms_norm;
use crate::kernel::pool::Team;
use crate::model::plan::{HeadNorm, Latent};
use crate::model::state::{HeadBuffers, LatentBuffers, State};
use crate::simd::{Isa, Simd, Task};

use super::{Pass, multiply_one};

impl Latent {
    /// `x += attention(input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        self.project(pass);
        self.absorb(pass);
        self.attend(pass);
        self.give(pass);
        pass.add_to_residual(&self.output);
    }

    /// `q`, and keys and values as the caches take them, but not rotated.
    fn project(&self, pass: &mut Pass<'_, '_>) {
        let (rows, rank, key_dim) = (pass.rows(), self.rank(), self.key_dim());
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, q, k, v, latent, .. } = &mut **state;
        let LatentBuffers { q_down, kv_down, .. } = latent;
        q.resize(rows * self.q.rows(), 0.0);
        kv_down.resize(rows * key_dim, 0.0);
        let keys = Product::Store(&self.kv_down, kv_down);
        match &self.q_down {
            None => multiply_one(team, *isa, input, &mut [keys, Product::Store(&self.q, q)]),
            Some((down, norm)) => {
                q_down.resize(rows * down.rows(), 0.0);
                multiply_one(team, *isa, input, &mut [keys, Product::Store(down, q_down)]);
                norm.rows(team, *isa, q_down);
                input.replace(q_down, down.rows());
                multiply_one(team, *isa, input, &mut [Product::Store(&self.q, q)]);
                input.replace(q_down, down.cols()); // each keeps its own memory
            }
        }
        k.resize(rows * key_dim, 0.0);
        v.resize(rows * key_dim, 0.0);
        let keys_and_values = k.chunks_exact_mut(key_dim).zip(v.chunks_exact_mut(key_dim));
        let mut of_rows: Vec<_> = keys_and_values.zip(kv_down.chunks_exact(key_dim)).collect();
        team.for_each(&mut of_rows, |_, ((key, value), down)| {
            let (latent, rotated) = down.split_at(rank);
            isa.run(Keys { norm: &self.kv_norm, latent, rotated, key, value });
        });
    }

    /// `queries`: of each head what is rotated, and `k_up` times the rest.
    fn absorb(&self, pass: &mut Pass<'_, '_>) {
        let (rows, key_dim, n_rot) = (pass.rows(), self.key_dim(), self.n_rot);
        let (count, width) = (self.k_up.len(), self.k_up.first().map_or(0, Matrix::cols));
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { q, latent, .. } = &mut **state;
        let LatentBuffers { queries, heads, .. } = latent;
        let of_head = width + n_rot;
        multiply_heads(team, *isa, (&self.k_up, heads), rows, |head, row| {
            &q[(row * count + head) * of_head..][..width]
        });
        queries.resize(rows * count * key_dim, 0.0);
        let mut of_rows: Vec<_> = queries.chunks_exact_mut(count * key_dim).collect();
        team.for_each(&mut of_rows, |row, queries| {
            for (head, query) in queries.chunks_exact_mut(key_dim).enumerate() {
                let (rotated, absorbed) = query.split_at_mut(n_rot);
                let q = &q[(row * count + head) * of_head..][..of_head];
                rotated.copy_from_slice(&q[width..]);
                absorbed
                    .copy_from_slice(&heads[head].out[row * absorbed.len()..][..absorbed.len()]);
            }
        });
    }

    /// `seen`, by way of the caches.
    fn attend(&self, pass: &mut Pass<'_, '_>) {
        let Pass { team, isa, state, feeds, spans, .. } = &mut *pass;
        let State { k, v, latent, rotary, .. } = &mut **state;
        let LatentBuffers { queries, seen, .. } = latent;
        let rotated = Prepare { rotary: Some(&rotary[self.rope]), ..Prepare::default() };
        let attention = kernel::Attention {
            isa: *isa,
            layer: self.cache,
            sight: kernel::Sight::Before,
            queries: Prepare { query: true, ..rotated },
            keys: rotated,
            values: Prepare::default(),
            divisor: self.divisor,
            soft_cap: None,
            slopes: None,
            sinks: None,
        };
        let caches = feeds.iter_mut().map(|feed| &mut *feed.cache).zip(spans.iter().cloned());
        attention.append(team, caches.collect(), k, v);
        let caches: Vec<_> =
            feeds.iter().map(|feed| &*feed.cache).zip(spans.iter().cloned()).collect();
        seen.resize(queries.len(), 0.0);
        attention.attend(team, &caches, queries, seen);
    }

    /// `input ← v_up · seen` of all heads.
    fn give(&self, pass: &mut Pass<'_, '_>) {
        let (rows, key_dim, n_rot) = (pass.rows(), self.key_dim(), self.n_rot);
        let (count, width) = (self.v_up.len(), self.v_up.first().map_or(0, Matrix::rows));
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, latent, .. } = &mut **state;
        let LatentBuffers { seen, heads, .. } = latent;
        multiply_heads(team, *isa, (&self.v_up, heads), rows, |head, row| {
            &seen[(row * count + head) * key_dim..][n_rot..key_dim]
        });
        input.reset(rows, count * width);
        let mut of_rows: Vec<_> = input.values.chunks_exact_mut(count * width).collect();
        team.for_each(&mut of_rows, |row, values| {
            for (values, head) in values.chunks_exact_mut(width).zip(&*heads) {
                values.copy_from_slice(&head.out[row * width..][..width]);
            }
        });
    }
}

/// `out` of each head: its matrix times what it reads of each row, all in one phase.
fn multiply_heads<'x>(
    team: &Team<'_>,
    isa: Isa,
    (matrices, heads): (&[Matrix], &mut Vec<HeadBuffers>),
    rows: usize,
    read: impl Fn(usize, usize) -> &'x [f32] + Sync,
) {
    heads.resize_with(matrices.len(), HeadBuffers::default);
    let mut all: Vec<_> = heads.iter_mut().zip(matrices).collect();
    team.for_each(&mut all, |head, (HeadBuffers { input, out }, matrix)| {
        input.reset(rows, matrix.cols());
        for (row, values) in input.values.chunks_exact_mut(matrix.cols()).enumerate() {
            values.copy_from_slice(read(head, row));
        }
        out.resize(rows * matrix.rows(), 0.0);
    });
    let mut products: Vec<_> = heads
        .iter_mut()
        .zip(matrices)
        .map(|(HeadBuffers { input, out }, matrix)| (input, [Product::Store(matrix, out)]))
        .collect();
    let groups = products.iter_mut().map(|(input, products)| Group { input, products });
    multiply(team, isa, &mut groups.collect::<Vec<_>>());
}

/// The key and the value of one row.
struct Keys<'a> {
    norm: &'a HeadNorm,
    latent: &'a [f32],
    rotated: &'a [f32],
    key: &'a mut [f32],
    value: &'a mut [f32],
}

impl Task for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Keys { norm, latent, rotated, key, value } = self;
        let (front, normed) = key.split_at_mut(rotated.len());
        front.copy_from_slice(rotated);
        normed.copy_from_slice(latent);
        rms_norm(simd, normed, &norm.weight, norm.epsilon);
        let (front, same) = value.split_at_mut(rotated.len());
        front.fill(0.0);
        same.copy_from_slice(normed);
    }
}
