"""The trainer: a thin loop on PyTorch's own parts and Hugging Face models.

What is asked, and what it comes to (only `forecast` asks torch, for a model's outline):

    config, amount    the YAML file; so many tokens, steps, or a share
    run, schedule     config and lock held together; steps and learning rates
    flops, memory     what a step computes, and what it asks of a GPU
    forecast          all of that, told before anything is built

What is trained:

    model, weights    a model of transformers, checked; its weights in and out
    rope              its positions stretched, and changed between phases
    attention, blocks attention inside documents, on flash, flex or plain kernels
    loss              cross-entropy without all logits at once
    context           sequences that several ranks share

How it goes:

    world, parallel   the ranks; the model spread over them
    build             model, optimizer and ranks, made of a config
    resume            where a run begins
    step, loop        a step's gradient; phases, steps, and what lies between
    course            phases and rates of a run, and what examinations decided of them
    examining         checkpoints examined while the ranks wait
    ending, failing   where a run came to its end; what it means when torch gives up
    checkpoint        saved whole, the newest few kept
    breakdown, events, boards, telling    losses by domain and position; what is told, where, and when
    signals           who asks to stop
"""
