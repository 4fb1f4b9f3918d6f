"""A trained student to a version folder: ONNX graphs in three precisions, each compared with torch or with fp32."""
