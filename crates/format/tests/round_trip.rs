//! What is written is read back the same, for any content.

use std::collections::BTreeMap;

use autarky_format::TensorView;
use autarky_format::gguf::{self, Array, Gguf, Metadata, StrArray, Value};
use autarky_format::safetensors::{self, RawTensor, SafeDType, SafeTensors};
use autarky_quant::DType;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any::<String>(), 0..9).prop_map(|s| Array::Str(s.into_iter().collect::<StrArray>())),
    ];
    // Four deep, the reader's limit.
    flat.prop_recursive(3, 32, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(|s| s.into()),
        array().prop_map(Value::Array),
    ]
}

/// A type, a shape whose rows are whole blocks, and as many bytes as they take.
fn tensor() -> impl Strategy<Value = (DType, Vec<usize>, Vec<u8>)> {
    (0..DType::ALL.len(), vec(1_usize..4, 0..4), 1_usize..4).prop_flat_map(|(dtype, mut shape, blocks)| {
        let dtype = DType::ALL[dtype];
        shape.push(blocks * dtype.block_len());
        let bytes = dtype.bytes(shape.iter().product()).unwrap();
        (Just(dtype), Just(shape), vec(any::<u8>(), bytes))
    })
}

fn raw_tensor() -> impl Strategy<Value = (SafeDType, Vec<usize>, Vec<u8>)> {
    let dtypes = vec![
        SafeDType::BOOL,
        SafeDType::U8,
        SafeDType::F8_E4M3,
        SafeDType::F16,
        SafeDType::BF16,
        SafeDType::F32,
        SafeDType::F64,
        SafeDType::I64,
        SafeDType::I32,
    ];
    (proptest::sample::select(dtypes), vec(0_usize..4, 0..5)).prop_flat_map(|(dtype, shape)| {
        let bytes = dtype.bytes(shape.iter().product()).unwrap();
        (Just(dtype), Just(shape), vec(any::<u8>(), bytes))
    })
}

proptest! {
    #[test]
    fn gguf(
        entries in btree_map(".{1,20}", value(), 0..8),
        alignment in prop_oneof![Just(None), (3_u32..10).prop_map(|n| Some(1_u32 << n))],
        tensors in btree_map("[a-zé.]{1,20}", tensor(), 0..6),
    ) {
        let mut metadata: Metadata = entries.into_iter().collect();
        metadata.remove("general.alignment");
        if let Some(alignment) = alignment {
            metadata.insert("general.alignment", alignment);
        }
        let views: Vec<TensorView<'_>> = tensors
            .iter()
            .map(|(name, (dtype, shape, data))| TensorView { name, dtype: *dtype, shape, data })
            .collect();
        let bytes = gguf::to_bytes(&metadata, &views).unwrap();
        let read = Gguf::parse(&bytes).unwrap();
        prop_assert_eq!(read.metadata(), &metadata);
        prop_assert_eq!(read.tensors().len(), views.len());
        for view in views {
            prop_assert_eq!(read.tensor(view.name), Some(view));
        }
        let alignment = alignment.unwrap_or(32) as usize;
        prop_assert!(read.tensors().iter().all(|t| t.range.start % alignment == 0), "data is not aligned");
    }

    #[test]
    fn safetensors(
        metadata in btree_map(any::<String>(), any::<String>(), 0..4),
        tensors in btree_map(any::<String>(), raw_tensor(), 0..6),
    ) {
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (&**k, &**v)).collect();
        let raws: BTreeMap<&str, RawTensor<'_>> = tensors
            .iter()
            .map(|(name, (dtype, shape, data))| (&**name, RawTensor { name, dtype: *dtype, shape, data }))
            .collect();
        let bytes = safetensors::to_bytes(&metadata, &raws.values().copied().collect::<Vec<_>>()).unwrap();
        let read = SafeTensors::parse(&bytes).unwrap();
        prop_assert_eq!(read.metadata().collect::<Vec<_>>(), metadata);
        prop_assert_eq!(read.tensors().len(), raws.len());
        for (name, raw) in raws {
            prop_assert_eq!(read.raw(name), Some(raw));
        }
    }

    /// Bytes that nobody wrote are refused, not obeyed: no panic, whatever they are.
    #[test]
    fn noise_behind_a_right_start_is_survived(noise in vec(any::<u8>(), 0..200), counts in any::<[u8; 2]>()) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        for count in counts {
            bytes.extend(u64::from(count % 4).to_le_bytes());
        }
        bytes.extend(&noise);
        let _ = Gguf::parse(&bytes);

        let mut bytes = (noise.len() as u64 + 1).to_le_bytes().to_vec();
        bytes.push(b'{');
        bytes.extend(&noise);
        let _ = SafeTensors::parse(&bytes);
    }
}
