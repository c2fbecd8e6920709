"""Training samples: data sets to encoded batches. Imports nothing by itself."""
