"""The figures of the experiments, in one style: tables in, drawings out; nothing here simulates or trains."""
