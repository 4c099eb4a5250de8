//! Files written by the formats' own Python packages (`fixtures/fixtures.py`), read and written the same.

use std::fs;
use std::path::{Path, PathBuf};

use autarky_format::gguf::{self, Array, File, Metadata, StrArray, Value};
use autarky_format::safetensors::{self, RawTensor, SafeDType};
use autarky_format::{TensorSpec, TensorView};
use autarky_quant::DType;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `pattern` of the script.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (13 + 7 * i % 251) as u8).collect()
}

/// The metadata that the script writes, in its order.
fn metadata() -> Metadata {
    let nested = Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3])]);
    let entries: Vec<(&str, Value)> = vec![
        ("general.architecture", "test".into()),
        ("u8", 200_u8.into()),
        ("i8", (-100_i8).into()),
        ("u16", 60000_u16.into()),
        ("i16", (-30000_i16).into()),
        ("u32", 4_000_000_000_u32.into()),
        ("i32", (-2_000_000_000_i32).into()),
        ("f32", 1.5_f32.into()),
        ("bool", true.into()),
        ("str", "Größe 大小 \u{1f9ed}".into()),
        ("u64", u64::MAX.into()),
        ("i64", i64::MIN.into()),
        ("f64", 1e300_f64.into()),
        ("array.i32", vec![-1, 0, 1_i32].into()),
        ("array.f32", vec![0.25, -0.5_f32].into()),
        ("array.str", ["a", "", "ü"].into_iter().collect::<StrArray>().into()),
        ("array.bool", vec![true, false].into()),
        ("array.array", nested.into()),
    ];
    entries.into_iter().collect()
}

/// Names, types, shapes and bytes that the script writes, in its order.
fn tensors() -> Vec<(TensorSpec<DType>, Vec<u8>)> {
    let mut tensors: Vec<_> = DType::ALL
        .into_iter()
        .map(|dtype| {
            let row = dtype.block_len().max(2);
            let data = pattern(2 * row / dtype.block_len() * dtype.block_bytes());
            (TensorSpec::new(format!("tensor.{dtype}"), dtype, [2, row]), data)
        })
        .collect();
    let numbers = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
    tensors.push((TensorSpec::new("tensor.3d", DType::F32, [2, 3, 4]), numbers));
    tensors
}

#[test]
fn a_file_of_gguf_py_is_read() {
    let file = File::open(fixture("all_types.gguf")).unwrap();
    assert_eq!((file.version(), file.alignment()), (3, 32));
    assert_eq!(*file.metadata(), metadata());
    assert_eq!(file.tensors().len(), tensors().len());
    for ((spec, data), info) in tensors().iter().zip(file.tensors()) {
        let expected = TensorView { name: &spec.name, dtype: spec.dtype, shape: &spec.shape, data };
        assert_eq!(file.tensor(&spec.name), Some(expected), "{}", spec.name);
        assert_eq!(*info.name, *spec.name, "the order of tensors is lost");
    }
    assert_eq!(file.tensor("tensor.3d").unwrap().f32s().unwrap()[23], 23.0);
}

#[test]
fn version_2_differs_in_its_number_only() {
    let mut bytes = fs::read(fixture("all_types.gguf")).unwrap();
    bytes[4] = 2;
    let old = gguf::Gguf::parse(&bytes).unwrap();
    assert_eq!(old.version(), 2);
    assert_eq!(*old.metadata(), metadata());
    assert_eq!(old.tensor("tensor.Q4_K").unwrap().data, pattern(288));
}

#[test]
fn the_gguf_writers_write_what_gguf_py_writes() {
    let golden = fs::read(fixture("all_types.gguf")).unwrap();
    let tensors = tensors();
    let views: Vec<TensorView<'_>> = tensors
        .iter()
        .map(|(spec, data)| TensorView { name: &spec.name, dtype: spec.dtype, shape: &spec.shape, data })
        .collect();
    assert!(gguf::to_bytes(&metadata(), &views).unwrap() == golden, "to_bytes differs from gguf-py");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut writer = gguf::Writer::create(&path, &metadata(), &specs).unwrap();
    for (spec, data) in tensors.iter().rev() {
        let (start, rest) = data.split_at(5);
        writer.append(&spec.name, start).unwrap();
        writer.append(&spec.name, rest).unwrap();
    }
    assert!(!path.exists(), "the file has its name before it is whole");
    writer.finish().unwrap();
    assert!(fs::read(&path).unwrap() == golden, "Writer differs from gguf-py");
}

/// Names, types, shapes and bytes of the safetensors fixture, by name.
fn raw_tensors() -> Vec<(TensorSpec<SafeDType>, Vec<u8>)> {
    let f32s = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let ids = [1_i64, -2, 3].iter().flat_map(|x| x.to_le_bytes()).collect();
    vec![
        (TensorSpec::new("a.f32", SafeDType::F32, []), f32s(&[2.5])),
        (TensorSpec::new("b.f32", SafeDType::F32, [2, 3]), f32s(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])),
        (TensorSpec::new("empty", SafeDType::F64, [0, 4]), vec![]),
        (TensorSpec::new("half", SafeDType::F16, [2]), vec![0x00, 0x38, 0x00, 0xb4]),
        (TensorSpec::new("ids", SafeDType::I64, [3]), ids),
        (TensorSpec::new("mask", SafeDType::BOOL, [3]), vec![1, 0, 1]),
        (TensorSpec::new("quoted \"name\" \\ ü", SafeDType::U8, [2]), vec![7, 8]),
    ]
}

#[test]
fn a_file_of_safetensors_for_python_is_read() {
    let file = safetensors::File::open(fixture("all_types.safetensors")).unwrap();
    assert_eq!(file.metadata().collect::<Vec<_>>(), [("format", "np")]);
    assert_eq!(file.tensors().len(), raw_tensors().len());
    for (spec, data) in &raw_tensors() {
        let expected = RawTensor { name: &spec.name, dtype: spec.dtype, shape: &spec.shape, data };
        assert_eq!(file.raw(&spec.name), Some(expected), "{}", spec.name);
        assert_eq!(file.tensor(&spec.name).is_some(), spec.dtype.dtype().is_some(), "{}", spec.name);
    }
    assert_eq!(file.raw("ids").unwrap().ints().unwrap(), [1, -2, 3]);
}

#[test]
fn the_safetensors_writers_write_what_safetensors_for_python_writes() {
    let golden = fs::read(fixture("all_types.safetensors")).unwrap();
    let tensors = raw_tensors();
    let raws: Vec<RawTensor<'_>> = tensors
        .iter()
        .map(|(spec, data)| RawTensor { name: &spec.name, dtype: spec.dtype, shape: &spec.shape, data })
        .collect();
    assert!(
        safetensors::to_bytes(&[("format", "np")], &raws).unwrap() == golden,
        "to_bytes differs from Python"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut writer = safetensors::Writer::create(&path, &[("format", "np")], &specs).unwrap();
    for (spec, data) in &tensors {
        writer.append(&spec.name, data).unwrap();
    }
    writer.finish().unwrap();
    assert!(fs::read(&path).unwrap() == golden, "Writer differs from Python");
}

#[test]
fn shards_written_are_read_as_one() {
    let tensors = raw_tensors();
    let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    for (max_bytes, files) in [(u64::MAX, 1), (24, 6), (0, 8)] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = safetensors::ShardedWriter::create(folder.path(), &[], &specs, max_bytes).unwrap();
        for (spec, data) in &tensors {
            writer.append(&spec.name, data).unwrap();
        }
        assert!(writer.append("unknown", &[0]).is_err());
        writer.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files, "files of at most {max_bytes} bytes");

        let file = safetensors::File::open_folder(folder.path()).unwrap();
        assert_eq!(file.tensors().len(), tensors.len());
        for (spec, data) in &tensors {
            assert_eq!(file.raw(&spec.name).unwrap().data, data, "{}", spec.name);
        }
        let again = safetensors::ShardedWriter::create(folder.path(), &[], &specs, max_bytes);
        assert!(again.unwrap_err().to_string().contains("already holds a model"));
    }
}

#[test]
fn a_model_in_several_gguf_files_is_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(format!("model-{n:05}-of-00003.gguf"));
    let data = |n: usize| (n as f32).to_le_bytes().repeat(2);
    let shard = |n: usize| {
        let mut metadata: Metadata = [("split.no", (n - 1) as u16), ("split.count", 3)].into_iter().collect();
        metadata.insert("split.tensors.count", 3_i32);
        if n == 1 {
            metadata.insert("general.architecture", "test");
        }
        let name = format!("tensor.{n}");
        let view = TensorView { name: &name, dtype: DType::F32, shape: &[2], data: &data(n) };
        gguf::to_bytes(&metadata, &[view]).unwrap()
    };
    for n in 1..=3 {
        fs::write(path(n), shard(n)).unwrap();
    }
    for n in 1..=3 {
        let file = File::open(path(n)).unwrap();
        assert_eq!(file.metadata().get_str("general.architecture").unwrap(), "test", "opened by shard {n}");
        for n in 1..=3 {
            assert_eq!(file.require(&format!("tensor.{n}")).unwrap().data, data(n));
            file.release(&format!("tensor.{n}"));
            assert_eq!(file.require(&format!("tensor.{n}")).unwrap().data, data(n));
        }
    }

    let fails_with = |part: &str| {
        let message = File::open(path(1)).unwrap_err().to_string();
        assert!(message.contains(part), "{message} does not tell {part}");
    };
    fs::write(path(3), shard(2)).unwrap();
    fails_with("split.no");
    fs::remove_file(path(3)).unwrap();
    fails_with("model-00003-of-00003.gguf");
    fs::rename(path(1), folder.path().join("other.gguf")).unwrap();
    let message = File::open(folder.path().join("other.gguf")).unwrap_err().to_string();
    assert!(message.contains("file name") && message.contains("-of-00003.gguf"), "{message}");
}
