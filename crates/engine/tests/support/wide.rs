//! A trained model wide enough for every quantization.
//!
//! The trained model in the tree is 64 numbers wide, and the K-quants' blocks are 256. This widens it without
//! changing what it computes: zeros are added up to width 256, and then the residual stream is rotated by an
//! orthogonal matrix (a Hadamard matrix with random signs), which RMS norms do not notice once their gains are folded
//! into the next matrix (Ashkboos et al. 2024, "SliceGPT", arXiv:2401.15024, section 3). So rows are dense, and every
//! number in them comes from training.

use std::path::Path;

use autarky_format::gguf::{Metadata, Writer};
use autarky_format::{TensorSpec, llama2c};
use autarky_quant::DType;

const WIDE: usize = 256;

/// `[rows, columns]`, row-major.
struct Matrix {
    rows: usize,
    columns: usize,
    numbers: Vec<f32>,
}

impl Matrix {
    fn new(rows: usize, columns: usize, at: impl Fn(usize, usize) -> f32) -> Matrix {
        let numbers = (0..rows * columns).map(|i| at(i / columns, i % columns)).collect();
        Matrix { rows, columns, numbers }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        match row < self.rows && column < self.columns {
            true => self.numbers[row * self.columns + column],
            false => 0.0,
        }
    }

    /// With zeros up to `[rows, columns]`.
    fn padded(&self, rows: usize, columns: usize) -> Matrix {
        Matrix::new(rows, columns, |r, c| self.at(r, c))
    }

    fn transposed(&self) -> Matrix {
        Matrix::new(self.columns, self.rows, |r, c| self.at(c, r))
    }
}

/// Entry of the orthogonal matrix Q.
fn rotation(row: usize, column: usize) -> f32 {
    // The parity of the shared bits gives Sylvester's Hadamard matrix; the signs of its columns are scattered.
    let sign = (row & column).count_ones() + ((column * 0x9e37) >> 7 & 1) as u32;
    if sign.is_multiple_of(2) { 1.0 / 16.0 } else { -1.0 / 16.0 }
}

/// For a matrix that reads the residual stream: W · diag(gain) · [I 0] · Qᵀ.
fn reading(w: &Matrix, gain: &[f32], rows: usize) -> Matrix {
    let narrow = gain.len();
    Matrix::new(rows, WIDE, |r, c| (0..narrow).map(|k| w.at(r, k) * gain[k] * rotation(c, k)).sum())
}

/// For rows that are added to the residual stream: each row x becomes Q [x; 0].
fn written(rows: &Matrix) -> Matrix {
    let ones = vec![1.0; rows.columns];
    reading(rows, &ones, rows.rows)
}

/// Writes the widened model with its matrices in `dtype`.
pub(crate) fn write(checkpoint: &Path, out: &Path, dtype: DType) {
    let checkpoint = llama2c::Checkpoint::read(checkpoint).expect("the trained model is in the tree");
    let c = *checkpoint.config();
    let get = |name: &str| {
        let t = checkpoint.tensor(name).unwrap_or_else(|| panic!("{name}"));
        let numbers = t.f32s().expect("llama2.c files hold f32").into_owned();
        Matrix {
            rows: numbers.len() / t.shape[t.shape.len() - 1],
            columns: t.shape[t.shape.len() - 1],
            numbers,
        }
    };
    let gain = |name: &str| get(name).numbers;
    let (heads, groups) = (WIDE / c.head_dim(), WIDE / c.head_dim() * c.n_kv_heads / c.n_heads);

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    for (key, value) in [
        ("block_count", c.n_layers),
        ("context_length", c.seq_len),
        ("embedding_length", WIDE),
        ("feed_forward_length", WIDE),
        ("attention.head_count", heads),
        ("attention.head_count_kv", groups),
        ("rope.dimension_count", c.head_dim()),
        ("vocab_size", c.vocab_size),
    ] {
        metadata.insert(&format!("llama.{key}"), u32::try_from(value).expect("sizes are small"));
    }
    // The mean of squares is over four times as many numbers; the gains of 1/2 undo that.
    metadata.insert("llama.attention.layer_norm_rms_epsilon", 1e-5f32 * c.dim as f32 / WIDE as f32);
    let half = vec![(c.dim as f32 / WIDE as f32).sqrt(); WIDE];

    let embedding = get("tok_embeddings.weight");
    let mut tensors: Vec<(String, Matrix)> = vec![
        ("token_embd.weight".to_owned(), written(&embedding)),
        ("output.weight".to_owned(), reading(&embedding, &gain("norm.weight"), c.vocab_size)),
    ];
    let mut norms = vec!["output_norm.weight".to_owned()];
    for layer in 0..c.n_layers {
        let of = |name: &str| get(&format!("layers.{layer}.{name}.weight"));
        let to = |name: &str| format!("blk.{layer}.{name}.weight");
        let gain = |name: &str| of(name).numbers;
        for (name, from, rows) in [
            ("attn_q", "attention.wq", WIDE),
            ("attn_k", "attention.wk", groups * c.head_dim()),
            ("attn_v", "attention.wv", groups * c.head_dim()),
        ] {
            tensors.push((to(name), reading(&of(from), &gain("attention_norm"), rows)));
        }
        for (name, from) in [("ffn_gate", "feed_forward.w1"), ("ffn_up", "feed_forward.w3")] {
            tensors.push((to(name), reading(&of(from), &gain("ffn_norm"), WIDE)));
        }
        for (name, from) in [("attn_output", "attention.wo"), ("ffn_down", "feed_forward.w2")] {
            // Columns of W are what is added to the stream.
            let columns = of(from).transposed();
            tensors.push((to(name), written(&columns).padded(WIDE, WIDE).transposed()));
        }
        norms.extend([to("attn_norm"), to("ffn_norm")]);
    }

    let mut specs: Vec<TensorSpec<DType>> =
        tensors.iter().map(|(name, m)| TensorSpec::new(name.as_str(), dtype, [m.rows, m.columns])).collect();
    specs.extend(norms.iter().map(|name| TensorSpec::new(name.as_str(), DType::F32, [WIDE])));
    let mut writer = Writer::create(out, &metadata, &specs).expect("a file in a fresh folder");
    for (name, m) in &tensors {
        let mut bytes = vec![0; dtype.bytes(m.numbers.len()).expect("rows are whole blocks")];
        autarky_quant::quantize(dtype, &m.numbers, &mut bytes).expect("weights are finite");
        writer.append(name, &bytes).expect("as declared");
    }
    for name in &norms {
        let bytes: Vec<u8> = half.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.append(name, &bytes).expect("as declared");
    }
    writer.finish().expect("all tensors were written");
}
