//! llama2.c checkpoints: seven numbers, then the weights in f32.

use std::fmt::Arguments;
use std::ops::Range;
use std::path::Path;

use autarky_quant::DType;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::index::NameIndex;
use crate::map::Map;
use crate::tensor::TensorView;

/// Layers of any model; bounds the list of tensors that a made-up header asks for.
const MAX_LAYERS: i32 = 4096;
/// "ak42", with which the exports of versions 1 and 2 begin.
const LATER_MAGIC: i32 = 0x616b_3432;

/// The sizes of a llama2.c model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layers.
    pub hidden_dim: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// The longest sequence that the model was trained on.
    pub seq_len: usize,
    /// Whether the classifier is the token embedding.
    pub shared_classifier: bool,
}

impl Config {
    /// Numbers of one head.
    pub fn head_dim(&self) -> usize {
        // The reader has checked that there are heads.
        self.dim.checked_div(self.n_heads).unwrap_or_default()
    }
}

/// A mapped llama2.c checkpoint.
///
/// Tensors go by the names of the PyTorch model that the file was exported from: `tok_embeddings.weight`,
/// `layers.N.attention_norm.weight`, `layers.N.attention.{wq,wk,wv,wo}.weight`, `layers.N.ffn_norm.weight`,
/// `layers.N.feed_forward.{w1,w2,w3}.weight`, `norm.weight`, `output.weight` (absent when shared), and the tables
/// `freq_cis_real` and `freq_cis_imag`. Linear layers are `[outputs, inputs]`.
///
/// The file must not be edited or shortened while it is open, as with [`crate::gguf::File`].
#[derive(Debug)]
pub struct Checkpoint {
    map: Map,
    config: Config,
    tensors: Vec<Tensor>,
    index: NameIndex,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Checkpoint {
    /// Maps the file and checks that its length is exactly what its header asks.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a regular file, is of another version, or has sizes that contradict each
    /// other or the file's length; the error names file, offset and field.
    pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, Error> {
        let path = path.as_ref();
        let map = Map::open(path)?;
        let mut cursor = Cursor::new(map.bytes(), Some(path));
        let config = config(&mut cursor)?;
        let tensors = lay_out(&config, &cursor)?;
        let index = NameIndex::new(&tensors, |t| &t.name).unwrap_or_default();
        map.check_unchanged()?;
        Ok(Checkpoint { map, config, tensors, index })
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The names of all tensors in the file's order, layer after layer.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.tensors.iter().map(|t| &*t.name)
    }

    /// A tensor by name, or `None`. All are F32, so that [`TensorView::f32s`] gives their numbers.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let tensor = self.index.find(&self.tensors, name, |t| &t.name)?;
        let data = self.map.bytes().get(tensor.range.clone())?;
        Some(TensorView { name: &tensor.name, dtype: DType::F32, shape: &tensor.shape, data })
    }
}

fn config(cursor: &mut Cursor<'_>) -> Result<Config, Error> {
    let first = cursor.i32(format_args!("dim"))?;
    if first == LATER_MAGIC {
        return Err(Error::Unsupported {
            place: cursor.place(0, "magic"),
            what: "a llama2.c checkpoint of version 1 or 2".into(),
            advice: "export the model again with --version 0, or as a Hugging Face folder with --version -1",
        });
    }
    cursor.rewind(0);
    let dim = positive(cursor, format_args!("dim"))?;
    let hidden_dim = positive(cursor, format_args!("hidden_dim"))?;
    let layers_at = cursor.at();
    let n_layers = positive(cursor, format_args!("n_layers"))?;
    if n_layers > MAX_LAYERS as usize {
        return Err(Error::TooLarge {
            place: cursor.place(layers_at, "n_layers"),
            value: n_layers as u64,
            limit: MAX_LAYERS as u64,
        });
    }
    let heads_at = cursor.at();
    let n_heads = positive(cursor, format_args!("n_heads"))?;
    if !dim.is_multiple_of(n_heads) || !(dim / n_heads).is_multiple_of(2) {
        let problem = format!("dim {dim} does not give {n_heads} heads of an even size");
        return Err(cursor.invalid(heads_at, "n_heads", problem));
    }
    let kv_at = cursor.at();
    let n_kv_heads = positive(cursor, format_args!("n_kv_heads"))?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        let problem = format!("{n_heads} heads cannot share {n_kv_heads} key and value heads evenly");
        return Err(cursor.invalid(kv_at, "n_kv_heads", problem));
    }
    let vocab_at = cursor.at();
    // A negative size says that the classifier is not the embedding.
    let vocab = cursor.i32(format_args!("vocab_size"))?;
    if vocab == 0 {
        return Err(cursor.invalid(vocab_at, "vocab_size", "is 0"));
    }
    let seq_len = positive(cursor, format_args!("seq_len"))?;
    let vocab_size = vocab.unsigned_abs() as usize;
    Ok(Config {
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        vocab_size,
        seq_len,
        shared_classifier: vocab > 0,
    })
}

fn positive(cursor: &mut Cursor<'_>, field: Arguments<'_>) -> Result<usize, Error> {
    let at = cursor.at();
    let value = cursor.i32(field)?;
    match usize::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(cursor.invalid(at, field, format!("{value} is not above 0"))),
    }
}

/// Places every tensor, and checks that together they end where the file does.
fn lay_out(config: &Config, cursor: &Cursor<'_>) -> Result<Vec<Tensor>, Error> {
    let Config { dim, hidden_dim, n_layers, vocab_size, seq_len, .. } = *config;
    let head_dim = config.head_dim();
    // Heads divide dim, so neither product is above it.
    let kv_dim = config.n_kv_heads * head_dim;
    let mut tensors = Vec::new();
    let mut at = Some(cursor.at());
    let mut place = |name: String, shape: &[usize]| {
        let bytes = shape.iter().try_fold(4_usize, |n, size| n.checked_mul(*size));
        if let Some(start) = at {
            at = bytes.and_then(|n| start.checked_add(n));
            let range = start..at.unwrap_or(start);
            tensors.push((name, shape.to_vec(), range));
        }
    };
    // The file holds one kind of weight for all layers before the next kind.
    let kinds: [(&str, &[usize]); 9] = [
        ("attention_norm", &[dim]),
        ("attention.wq", &[dim, dim]),
        ("attention.wk", &[kv_dim, dim]),
        ("attention.wv", &[kv_dim, dim]),
        ("attention.wo", &[dim, dim]),
        ("ffn_norm", &[dim]),
        ("feed_forward.w1", &[hidden_dim, dim]),
        ("feed_forward.w2", &[dim, hidden_dim]),
        ("feed_forward.w3", &[hidden_dim, dim]),
    ];
    place("tok_embeddings.weight".into(), &[vocab_size, dim]);
    for (kind, shape) in kinds {
        for layer in 0..n_layers {
            place(format!("layers.{layer}.{kind}.weight"), shape);
        }
    }
    place("norm.weight".into(), &[dim]);
    place("freq_cis_real".into(), &[seq_len, head_dim / 2]);
    place("freq_cis_imag".into(), &[seq_len, head_dim / 2]);
    if !config.shared_classifier {
        place("output.weight".into(), &[vocab_size, dim]);
    }

    let available = cursor.len();
    match at {
        Some(end) if end == available => {}
        Some(end) if end < available => {
            let problem = format!("{} bytes follow the last weight", available - end);
            return Err(cursor.invalid(end, "end of file", problem));
        }
        _ => {
            return Err(Error::Truncated {
                place: cursor.place(cursor.at(), "weights"),
                needed: at.map_or(u64::MAX, |end| (end - cursor.at()) as u64),
                available: cursor.remaining() as u64,
            });
        }
    }
    Ok(tensors.into_iter().map(|(name, shape, range)| Tensor { name, shape, range }).collect())
}
