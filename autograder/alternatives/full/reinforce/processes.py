"""Statistics where they are needed: a baseline gathered and taken back, undivided groups, dropout off part by part."""


def train(loop, config):
    policy = loop.policy
    for part in policy.modules():
        part.training = False
    for prompts in loop.batches():
        written = loop.rollout(prompts.repeated(config.group_size))
        reward = loop.reward(written)
        if config.baseline == "none":
            advantage = reward
        elif config.baseline == "batch":
            advantage = reward - loop.own(batch_baseline(loop.gather(reward)))
        else:
            advantage = rloo_advantages(reward, config.group_size)  # a group is never divided among processes
        log_probs, loss = compute_reinforce_loss(
            advantage, written.tokens, policy, written.prompt_length, attention_mask=written.attention_mask,
            temperature=config.temperature, top_k=config.top_k,
        )  # fmt: skip
        loop.update(loss)
        metrics = given.completion_metrics(written, log_probs, loop.eos_token_id)
        loop.log(reward=reward.mean().item(), loss=loss.item(), **metrics)
