"""The support desk of Harbour & Pine: the data of the demonstration, its recipe and its simulated raters."""
