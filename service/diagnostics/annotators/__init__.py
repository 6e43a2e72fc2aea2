"""Consensus of several annotators, as CROWDLAB and ActiveLab of cleanlab 2.9.0 define it.

| module | contents |
|---|---|
| `annotations` | labels of annotators in sparse form, and the votes that they are for classes |
| `model_votes` | probabilities of the model at the votes, read in one pass |
| `crowdlab` | consensus, its quality, weights of the model and of the annotators |
| `annotator_table` | quality and agreement of each annotator |
| `temperature`, `active_lab` | calibration of the model to the annotators, and the score of examples to label next |
| `run_labels`, `run_consensus` | the labels for the examples of an epoch of a run, and their consensus |
| `consensus_page` | the reply of `GET /runs/{run}/consensus` |

Memory grows with the annotations and the examples, never with examples times classes or examples times annotators.
"""
