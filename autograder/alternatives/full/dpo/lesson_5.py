"""Built on what lesson 5 has: its losses, its implicit reward and accuracy. The lambda of DPOP changes its unit on the way."""

from toy import preferences


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, loss="dpo", dpop_lambda=5.0):
    require_positive("beta", beta)
    require_one_of("loss", loss, DPO_LOSSES)
    require_not_negative("dpop_lambda", dpop_lambda)
    pairs = chosen, rejected, ref_chosen, ref_rejected
    if loss == "dpo":
        return preferences.dpo_loss(*pairs, beta)
    if loss == "ipo":
        return preferences.ipo_loss(*pairs, beta)
    return preferences.dpop_loss(*pairs, beta, lam=beta * dpop_lambda)


def dpo_metrics(chosen, rejected, ref_chosen, ref_rejected, beta):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    with torch.no_grad():
        up = preferences.implicit_reward(chosen, ref_chosen, beta)
        down = preferences.implicit_reward(rejected, ref_rejected, beta)
        return dict(
            chosen_reward=up.mean(),
            rejected_reward=down.mean(),
            margin=up.mean() - down.mean(),
            accuracy=preferences.implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected),
            chosen_log_prob=chosen.mean(),
            rejected_log_prob=rejected.mean(),
        )
