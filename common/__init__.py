"""What both networks share.

Data flows one way, and a module imports only from those that stand before it here:

    interrupts, errors, files, memory, device, settings, recipe, layers, compiling,
    normalisation, kernels, channels_last, triton_passes, triton_convolutions, triton_sums,
    triton_grid, triton_conv, triton_form, vectors, loops, maps, tiles, lanes, gates,
    arrangement, convolution, transforms, slots, fourier, spatial, store, graph,
    map_convolutions, batch_last, fused, checkpoint, matv5, matfile, georeference, arrayfile,
    scenefile, flags, labels, scene, preprocess, split, disjoint, splits, patches, predict,
    attention, optimizers, draws, step, train, progress, metrics, pictures, report, results,
    resume, outcome, figures, page, weights, classifier, network, experiment, mapping, cli,
    export, download, results_table, methods, significance, table_formats, significance_tables,
    paper_table
"""
