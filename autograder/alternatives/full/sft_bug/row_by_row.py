"""Every answer by itself, as long as it is, behind the start token: nothing is filled up."""


def train_sft(model, optimizer, batches, *, after_update=lambda line: None):
    for rows in batches:
        losses, right = [], []
        for source, answer in rows:
            read = torch.tensor([[world.START, *answer[:-1]]])
            logits = model(input_ids=torch.tensor([list(source)]), decoder_input_ids=read).logits[0]
            wanted = torch.tensor(answer)
            losses.append(-logits.log_softmax(-1)[range(len(answer)), wanted])
            right.append((logits.argmax(-1) == wanted).double())
        loss = torch.cat(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_update({"loss": float(loss.detach()), "accuracy": float(torch.cat(right).mean())})
