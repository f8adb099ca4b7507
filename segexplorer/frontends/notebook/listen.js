// What planes and figures share: how they come to hear what the kernel says.

// anywidget keeps every message from a widget that took more than two seconds to begin, as in a browser beside a
// training: the widget is there, and hears nothing for ever. Its messages are therefore taken from the comm itself.
async function listen(model) {
  try {
    const own = await model.widget_manager.get_model(model.get("uid")); // which is its id, too
    const base = Object.getPrototypeOf(Object.getPrototypeOf(own)); // of ipywidgets, above anywidget's
    if (own.comm) own.comm.on_msg((message) => base._handle_comm_msg.call(own, message));
  } catch (error) {
    console.warn(error); // a manager of another make; its own way remains
  }
}

const later = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Ask the kernel for what is to be shown, until it has answered: a page that is just connecting may lose messages.
async function ask(model, question, answered) {
  for (let pause = 2000; pause < 70000; pause *= 2) {
    await Promise.race([listen(model), later(1000)]);
    model.send(question());
    await later(pause);
    if (answered()) return;
  }
}

