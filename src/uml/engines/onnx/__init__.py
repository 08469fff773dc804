"""ONNX models on processors: folders of ONNX Runtime GenAI generate text, bare .onnx files embed and classify."""
