"""Public data sets of transparent and reflective objects, read in their own layouts."""
