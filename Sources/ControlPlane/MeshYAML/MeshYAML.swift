// MeshYAML
