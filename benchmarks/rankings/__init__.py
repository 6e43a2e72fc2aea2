"""The experiment behind the strategy `recommended`: planted wrong labels in 30 data sets, found by each ranking."""
