package worker

import (
	"context"
	"errors"
	"fmt"
)

// Call asks the service of a child, bounded like the evaluation of a unit. The
// error says that there is no answer, and why.
func (p *Pool) Call(ctx context.Context, question []byte) ([]byte, error) {
	for {
		child := p.take()
		fresh := child == nil
		if fresh {
			var err error
			if child, err = start(p.cfg); err != nil {
				return nil, err
			}
		}
		answer, again, err := ask(ctx, child, p.cfg, question)
		if err == nil && child.units < p.cfg.Units {
			p.give(child)
			return answer, nil
		}
		child.kill()
		if err == nil || fresh || !again || ctx.Err() != nil {
			return answer, err
		}
	}
}

// ask asks one child. Again says that a fresh one may do better.
func ask(ctx context.Context, child *process, cfg Config, question []byte) (answer []byte, again bool, err error) {
	watch := child.watch(ctx, cfg)
	child.units++
	err = writeFrame(child.in, frameCall, question)
	var kind byte
	if err == nil {
		kind, answer, err = readFrame(child.out)
	}
	switch killed := watch(); {
	case killed != nil:
		return nil, !killed.final, errors.New(killed.why)
	case err != nil:
		return nil, true, fmt.Errorf("the evaluator crashed: %s", child.lastWords())
	case kind == frameBroken:
		return nil, false, errors.New(string(answer))
	case kind != frameAnswer:
		return nil, false, fmt.Errorf("the evaluator sent an unknown frame %q", kind)
	}
	return answer, false, nil
}
