"""What both networks share.

Data flows one way, and a module imports only from those that stand before it here:

    errors, interrupts, files, memory, device, settings, recipe, layers, kernels, fused, checkpoint,
    matfile, georeference, arrayfile, scenefile, labels, scene, preprocess, split, disjoint,
    splits, patches, predict, attention, optimizers, step, train, progress, metrics, pictures,
    report, results, resume, outcome, figures, page, weights, classifier, network, experiment,
    mapping, cli,
    export, download, results_table,
    methods, significance, table_formats, significance_tables, paper_table
"""
