"""No library does the mathematics: softmax, logarithms and the choice of a word are written out."""


class Agent(nn.Module):
    """A column of a matrix is picked in place of a product with a one-hot vector; the ReLU is a clamp."""

    def __init__(self, hidden_size: int = 128) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, 6)
        self.hidden = nn.Linear(7, hidden_size)

    def forward(self, previous):
        hidden = (self.hidden.weight.T[previous] + self.hidden.bias).clamp(min=0)
        return hidden @ self.output.weight.T + self.output.bias

    def probabilities(self, previous):
        logits = self.forward(previous)
        grown = (logits - logits.max(dim=1, keepdim=True).values).exp()
        return grown / grown.sum(dim=1, keepdim=True)


def positive_probability(logits):
    return 1 / (1 + (torch.logsumexp(logits[3:], 0) - torch.logsumexp(logits[:3], 0)).exp())


def policy_loss(logits, word, advantage):
    constant = advantage.item() if isinstance(advantage, Tensor) else float(advantage)
    return (torch.logsumexp(logits, dim=0) - logits[word]) * constant


class Baseline:
    def __init__(self) -> None:
        self.total_score = 0.0
        self.count = 0

    def get(self) -> float:
        if self.count == 0:
            return 0.0
        return self.total_score / self.count

    def update(self, score: float) -> None:
        self.total_score, self.count = self.total_score + score, self.count + 1


def behaviour_policy(logits, epsilon, mode="sample"):
    if mode not in ("sample", "argmax") or epsilon < 0 or epsilon > 1:
        raise ValueError(f"expected epsilon in [0, 1] and mode 'sample' or 'argmax', received epsilon={epsilon}, mode={mode}")
    shares = torch.full_like(logits, epsilon / 6)
    if mode == "argmax":
        shares[int(torch.argmax(logits))] += 1 - epsilon
        return shares
    return shares + (1 - epsilon) * (logits - torch.logsumexp(logits, 0)).exp()


def choose_word(logits, epsilon, generator, mode="sample"):
    """Explore or exploit by one uniform number, then draw by inverting the cumulative distribution."""
    if torch.rand((), generator=generator).item() < epsilon:
        return torch.randint(6, (), generator=generator).item()
    if mode == "argmax":
        return logits.argmax().item()
    total = torch.softmax(logits, dim=0).cumsum(0)
    return min(5, int((torch.rand((), generator=generator, dtype=logits.dtype) > total).sum()))


def train(agent, critic, optimizer, baseline, epsilon, iterations, seed, *, mode="sample", weighted=True, after_step=None):
    """The gradients are taken by torch.autograd.grad; the word is chosen in a pass of its own, without gradient."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    losses, said = [], []
    for _ in range(iterations):
        with torch.no_grad():
            seen = agent(torch.tensor([START]))[0]
            said.append(choose_word(seen, epsilon=epsilon, mode=mode, generator=generator))
        reward = critic(said[-1])
        advantage = reward
        if baseline is not None:
            advantage -= baseline.get()
            baseline.update(reward)
        if weighted:
            pi = agent.probabilities(torch.tensor([START]))[0].detach()
            advantage *= (pi / behaviour_policy(seen, epsilon, mode))[said[-1]].item()
        loss = policy_loss(agent(torch.tensor([START])).squeeze(0), said[-1], advantage)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
        optimizer.step()
        if after_step:
            after_step(agent)
        losses.append(float(loss.detach()))
    shares = np.cumsum(np.isin(said, POSITIVE)) / np.arange(1, iterations + 1)
    return torch.tensor(losses, dtype=torch.float64), torch.from_numpy(shares)


def plot_training(losses, positive, kernel_size=25):
    """The median filter by windows, and axes that are added one by one, from the bottom up."""
    values = np.asarray(losses, dtype=float)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, kernel_size // 2), kernel_size)
    from matplotlib.figure import Figure

    figure = Figure()
    for place, curve, label in ((3, positive, "P(positive)"), (2, np.median(windows, axis=1), "median loss"), (1, values, "loss")):
        axes = figure.add_subplot(3, 1, place)
        axes.plot(range(1, len(values) + 1), curve)
        axes.set(ylabel=label, xlabel="iteration")
    return figure
