"""Other people's tools, in which the rows of a run can be looked at: one small file for each."""
