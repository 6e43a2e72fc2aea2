"""Label issues of structured examples: of labels, tokens and pixels.

| module | contents |
|---|---|
| `labels`, `label_tables` | multi-label examples: issues of each label against the rest; tables of labels |
| `class_issues`, `element_chunks` | elements with one of C classes each: issues, scores |
| `tokens`, `masks` | spans, entities and common words; scores and common confusions of images |
| `label_quality` | an example's quality from the scores of its elements |
| `run_chunks` | chunks of the elements that a run stores |
| `run_issues`, `run_words` | label issues of an epoch of a run; their words |
| `element_counts` | counts and losses of the elements of an epoch, by class and confusion |
| `filters`, `cutoffs` | the rules that mark, and the search for the largest values of groups |
| `kernel_runner`, `kernels`, `label_kernels` | compiled loops |

Issues are found in passes over chunks in constant memory, then marked chunk by chunk:

    issues = find_class_issues(chunks, num_classes)
    marker = ClassMarker(issues)
    for chunk in chunks():
        marks = marker.mark(chunk)
"""
