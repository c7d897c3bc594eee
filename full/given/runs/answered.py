"""Questions whose answers can be checked: read from any source, asked in batches, and what a policy makes of unseen ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from full.given import data, sums
from full.given.grpo_settings import AnsweredPrompts
from full.given.ppo_settings import completion_texts
from full.given.problems import InputProblem
from full.given.rollout import rollout
from full.given.scoring import completion_log_probs
from full.given.small_figures import share_interval

from . import common, measures
from .batches import Batches, Order, share

Say = Callable[[str], None]
Judge = Callable[[Sequence[str], Sequence[str]], Tensor]
"(completions, answers) -> 1 for each that is right, (n,): the learner's `exact_match_reward`."
MARKER = "####"


@dataclass(frozen=True)
class Question:
    """A question, the tokens that the policy goes on from, and the text of its answer."""

    text: str
    tokens: list[int]
    answer: str


def questions_of(config: Any, tokenizer: Any, model: nn.Module, say: Say) -> tuple[list[Question], list[Question]]:
    """(to train on, to measure on); no question stands in both. Raises InputProblem."""
    where = f"data={config.data}"
    if common.is_one_file(config.data):
        rows = read(config, config.train_split, 0)
        if len(rows) <= config.test_rows:
            few = f"has {len(rows)} rows, and test_rows={config.test_rows} leaves none to train on"
            raise InputProblem(f"{where}: {few}; lower it")
        training, test = rows[: -config.test_rows][: config.rows or None], rows[-config.test_rows :]
    else:
        training = read(config, config.train_split, config.rows)
        test = read(config, config.test_split, config.test_rows)
    known = {question for question, _ in training}
    kept = [row for row in test if row[0] not in known]
    if not kept:
        raise InputProblem(f"{where}: every test question is trained on as well; name another test_split")
    if len(kept) < len(test):
        say(f"{len(test) - len(kept)} of {len(test)} test questions are trained on as well; they were left out")
    return tuple(asked(rows, what, config, tokenizer, model, say) for what, rows in (("training", training), ("test", kept)))


def read(config: Any, split: str, limit: int) -> list[tuple[str, str]]:
    """(question, answer) of each row of a split, at most so many (0: all). Raises InputProblem."""
    where, names = f"data={config.data}", {"prompt": config.prompt_column, "answer": config.answer_column}
    if config.data in data.WORLDS and config.data != "sums":
        raise InputProblem(f"{where}: has no answers that can be checked; name sums, or a file with questions and answers")
    rows = data.load_rows(config.data, names, split=split, limit=limit)
    for row in rows:
        if type(row["answer"]) in (int, float):
            row["answer"] = str(row["answer"])
    questions, answers = (data.texts_of(rows, name, config.data) for name in names)
    for number, answer in enumerate(answers, 1):
        if not re.search(r"[0-9]", answer.rpartition(MARKER)[2]):
            expected = f"a number behind {MARKER}" if MARKER in answer else f"an answer with a number, as 42 or `... {MARKER} 42`"
            raise InputProblem(f"{where}: row {number}: expected {expected}, received {answer!r:.60}; leave such rows out")
    return list(zip(questions, answers))


def asked(rows: list[tuple[str, str]], what: str, config: Any, tokenizer: Any, model: nn.Module, say: Say) -> list[Question]:
    """Questions as tokens, in the tokenizer's chat template where it has one. Those that are too long are left out, and counted.

    To cut a question would make another one of it, whose answer nobody knows.
    """
    texts = [f"{question}\n{config.instruction}" if config.instruction else question for question, _ in rows]
    if config.chat and getattr(tokenizer, "chat_template", None):
        turns = ([{"role": "user", "content": text}] for text in texts)
        texts = [tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    ids = data.encode(tokenizer, texts)
    positions = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", None)
    limit = min(config.max_prompt, positions - config.new_tokens if positions else config.max_prompt)
    found = [Question(text, row, answer) for (text, answer), row in zip(rows, ids) if 0 < len(row) <= limit]
    if not found:
        longest = f"{limit} tokens (max_prompt={config.max_prompt}, new_tokens={config.new_tokens}, {positions} positions)"
        raise InputProblem(f"data={config.data}: no {what} question fits into {longest}; raise max_prompt or lower new_tokens")
    if len(found) < len(rows):
        say(f"{len(rows) - len(found)} of {len(rows)} {what} questions are longer than {limit} tokens and were left out")
    return found


def batch_of(questions: Sequence[Question], pad_token_id: int, rows: Any = None, whole: int | None = None) -> AnsweredPrompts:
    made = data.prompts_of([question.tokens for question in questions], pad_token_id, rows, whole)
    answers = tuple(question.answer for question in questions)
    return AnsweredPrompts(made.input_ids, made.attention_mask, made.rows, made.whole, answers)


def answered_batches(questions: list[Question], order: Order, pad_token_id: int) -> Batches:
    """The questions of every step, each once: `train` repeats them."""

    def batch(step: int, process: int, processes: int) -> AnsweredPrompts:
        mine, rows = share(order(step), process, processes)
        return batch_of([questions[i] for i in mine], pad_token_id, rows, order.batch_size)

    return batch


@dataclass
class Examiner:
    """Asks questions that are not trained on. Its draws are its own, and the same at every moment of a run."""

    policy: nn.Module
    reference: nn.Module
    tokenizer: Any
    judge: Judge
    config: Any
    accelerator: Any

    def right(self, questions: Sequence[Question], seed: int, progress: Callable[[int], None] = lambda done: None) -> np.ndarray:
        """Whether one sampled answer to each question is right, (questions,)."""
        return self._columns(questions, seed, 1, False, progress)["right"][:, 0] > 0

    def figures(self, questions: Sequence[Question], seed: int, progress: Callable[[int], None]) -> dict[str, Any]:
        """The figures of a policy with their 95% intervals, shares by Wilson's.

        accuracy: of one answer a question, sampled as in training; greedy_accuracy: of the likeliest tokens; pass_at_k: the share
        of questions with a right answer among `tries`; kl to the reference, nats a completion; completion_length, eos_rate; of
        sums, worked: the share of answers that show the working, accuracy_worked and accuracy_plain: of those, and of the others.
        """
        table = self._columns(questions, seed, max(self.config.tries, 1), False, progress)
        greedy = self._columns(questions, seed, 1, True, lambda done: None)
        right = table["right"] > 0  # (questions, tries)
        found: dict[str, Any] = {
            "accuracy": share_interval(right[:, 0]),
            "greedy_accuracy": share_interval(greedy["right"][:, 0] > 0),
            "kl": measures.interval(table["kl"].mean(1)),
            "completion_length": measures.interval(table["completion_length"].mean(1)),
            "eos_rate": share_interval(table["eos_rate"][:, 0] > 0),
        }
        if self.config.tries > 1:
            found[f"pass_at_{self.config.tries}"] = share_interval(right.any(1))
        if self.config.data == "sums":
            worked = table["worked"] > 0
            found["worked"] = share_interval(worked[:, 0])
            for name, rows in (("accuracy_worked", worked), ("accuracy_plain", ~worked)):
                found[name] = share_interval(right[rows]) if rows.any() else None
        return found

    def samples(self, questions: Sequence[Question], step: int, stage: str) -> list[dict[str, Any]]:
        """The answers to fixed questions as rows of samples.jsonl, always drawn with the same numbers."""
        if not questions:
            return []
        written, texts, ratio = self._written(batch_of(questions, self.tokenizer.pad_token_id), measures.SEED - 1, 1, False)
        right = self.judge(texts, [question.answer for question in questions])
        rows = []
        for n, (question, mask) in enumerate(zip(questions, written.mask.cpu())):
            ids = written.completion[n].cpu()[mask].tolist()
            apart = [round(x, 4) for x in ratio[n].cpu()[mask].tolist()]
            rows.append(
                {
                    "step": step,
                    "stage": stage,
                    "prompt": question.text,
                    "completion": texts[n],
                    "tokens": [self.tokenizer.decode([token]) for token in ids],
                    "log_ratio": apart,
                    "reward": float(right[n]),
                    "kl": round(sum(apart), 4),
                    "length": len(ids),
                    "answer": question.answer,
                }
            )
        return rows

    @torch.no_grad()
    def _written(self, prompts: AnsweredPrompts, seed: int, tries: int, greedy: bool) -> tuple[Any, list[str], Tensor]:
        """(what was written, as texts, log pi - log pi_ref of every token)."""
        config, tokenizer = self.config, self.tokenizer
        tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        how = {"temperature": config.temperature, "top_k": 1 if greedy else config.top_k}
        generator = torch.Generator().manual_seed(seed)
        prompts = prompts.repeated(tries).to(self.accelerator.device)
        found = rollout(self.policy, prompts, config.new_tokens, **tokens, **how, generator=generator)
        if greedy:  # a distribution of one token is infinitely far from any other
            return found, completion_texts(tokenizer, found), torch.zeros(found.mask.shape)
        own = completion_log_probs(self.policy, found, config.temperature, config.top_k)
        ratio = own - completion_log_probs(self.reference, found, config.temperature)
        return found, completion_texts(tokenizer, found), ratio.float()

    def _columns(
        self, questions: Sequence[Question], seed: int, tries: int, greedy: bool, progress: Callable[[int], None]
    ) -> dict[str, np.ndarray]:
        """name -> (questions, tries). The questions are divided among the processes; every one gets all of the table."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        each = max(self.config.eval_batch // (world * tries), 1) * world
        columns: dict[str, list[Tensor]] = {}
        for start in range(0, len(questions), each):
            some = questions[start : start + each]
            places = torch.arange(rank, len(some) + (-len(some)) % world, world) % len(some)  # nobody's are done twice
            mine = [some[i] for i in places.tolist()]
            batch = batch_of(mine, self.tokenizer.pad_token_id, places, len(some))
            written, texts, ratio = self._written(batch, seed + start, tries, greedy)
            mask = written.mask.cpu()
            answers = [question.answer for question in mine for _ in range(tries)]
            found = {
                "right": self.judge(texts, answers).cpu().double(),
                "kl": ratio.cpu().double().sum(1),
                "completion_length": mask.sum(1).double(),
                "eos_rate": ((written.completion.cpu() == self.tokenizer.eos_token_id) & mask).any(1).double(),
                "worked": torch.tensor([float(sums.shows_working(text)) for text in texts]),
            }
            columns.setdefault("place", []).append(measures._gathered(places + start, self.accelerator))
            for name, values in found.items():
                columns.setdefault(name, []).append(measures._gathered(values.view(-1, tries), self.accelerator))
            progress(min(start + each, len(questions)))
        table = {name: torch.cat(parts) for name, parts in columns.items()}
        _, first = np.unique(table.pop("place").numpy(), return_index=True)
        return {name: values.numpy()[first] for name, values in table.items()}
