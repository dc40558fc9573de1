"""The kinds of teachers: networks of transformers, ONNX files, stored maps; and what each of them answers (`answers`)."""
