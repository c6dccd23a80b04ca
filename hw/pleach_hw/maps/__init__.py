"""Windows of output pixels over a map memory: read, accumulated, drained and written."""
