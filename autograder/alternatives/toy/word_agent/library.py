"""The same by other calls of the library: functional layers, cross-entropy, torch.distributions, pyplot."""

import scipy.signal
from torch.distributions import Categorical


class Agent(nn.Module):
    def __init__(self, hidden_size: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features=7, out_features=hidden_size)
        self.output = nn.Linear(in_features=hidden_size, out_features=6)

    def forward(self, previous):
        inputs = torch.eye(7, dtype=self.output.bias.dtype)[previous]
        hidden = F.relu(F.linear(inputs, self.hidden.weight, self.hidden.bias))
        return F.linear(hidden, self.output.weight, self.output.bias)

    def probabilities(self, previous):
        return Categorical(logits=self(previous)).probs


def positive_probability(logits):
    return F.softmax(logits, dim=0) @ torch.tensor([word in POSITIVE for word in range(6)], dtype=logits.dtype)


def policy_loss(logits, word, advantage):
    """Cross-entropy with the word as its label, times the advantage."""
    constant = advantage.detach() if torch.is_tensor(advantage) else advantage
    return F.cross_entropy(logits.unsqueeze(0), torch.tensor([word])) * constant


class Baseline:
    def __init__(self) -> None:
        self.total_score = 0.0
        self.count = 0

    def get(self) -> float:
        return self.total_score / max(1, self.count)

    def update(self, score: float) -> None:
        mean = self.get()
        self.count += 1
        self.total_score = (mean + (score - mean) / self.count) * self.count


def behaviour_policy(logits, epsilon, mode="sample"):
    if epsilon != min(max(epsilon, 0), 1):
        raise ValueError(f"epsilon is {epsilon}, which is no probability")
    choices = {"sample": lambda: F.softmax(logits, 0), "argmax": lambda: torch.eye(6, dtype=logits.dtype)[logits.argmax()]}
    if mode not in choices:
        raise ValueError(f"mode is {mode}; it can be {' or '.join(choices)}")
    return torch.lerp(choices[mode](), torch.full((6,), 1 / 6, dtype=logits.dtype), float(epsilon))


def choose_word(logits, epsilon, generator, mode="sample"):
    """The Gumbel trick: the argmax of log-probabilities plus Gumbel noise is a draw from them."""
    uniform = torch.rand(6, generator=generator, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform))
    return int(torch.argmax(torch.log(behaviour_policy(logits, epsilon, mode)) + noise))


def train(agent, critic, optimizer, baseline, epsilon, iterations, seed, *, mode="sample", weighted=True, after_step=None):
    """The weight is exp(log pi - log behaviour), and the shares are a running mean."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.zeros(iterations, dtype=torch.float64)
    shares = torch.zeros(iterations, dtype=torch.float64)
    share = 0.0
    for n in range(iterations):
        optimizer.zero_grad()
        logits = agent(torch.full((1,), START)).flatten()
        word = choose_word(logits.detach(), epsilon, generator, mode)
        reward = critic(word)
        advantage = torch.tensor(reward - (baseline.get() if baseline else 0.0), dtype=logits.dtype)
        if baseline:
            baseline.update(reward)
        if weighted:
            log_behaviour = behaviour_policy(logits.detach(), epsilon, mode)[word].log()
            advantage = advantage * (logits.detach().log_softmax(0)[word] - log_behaviour).exp()
        loss = policy_loss(logits, word, advantage)
        loss.backward()
        optimizer.step()
        if after_step is not None:
            after_step(agent)
        share += ((word in POSITIVE) - share) / (n + 1)
        losses[n], shares[n] = loss.item(), share
    return losses, shares


def plot_training(losses, positive, kernel_size=25):
    """By pyplot, with the start marked by a further line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(nrows=3)
    plt.close(figure)
    curves = (losses, scipy.signal.medfilt(np.array(losses), kernel_size), positive)
    for one, curve, label in zip(axes, curves, ("Loss", "Loss, running median", "exact P(positive)")):
        one.axhline(0, color="gray")
        one.plot(np.arange(len(curve)), curve)
        one.set_ylabel(label)
    axes[-1].set_xlabel("Iteration")
    return figure
